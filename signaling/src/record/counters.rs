//! What the writing of records is counted by.

xdp::counters! {
    /// What became of records.
    pub struct RecordCounters {
        written: "Changes of call records written to the store",
        commits: "Transactions with call records",
        commit_microseconds: "Time that transactions with call records took",
        spooled: "Changes of call records written to the spool because the store did not take them",
        taken_in: "Changes of call records taken from the spool into the store",
        rejected: "Changes of call records that the store does not take at all; they are in records.rejected",
        lost: "Changes of call records that are lost: the queue or the spool was full",
        not_durable: "Calls answered before their record was on the disk, because that took too long",
        refusals_left_out: "Refused calls without a record, because there were too many",
        interrupted: "Records closed because the process that had the call died",
        store_failures: "Times that the store did not take records",
    }
}
