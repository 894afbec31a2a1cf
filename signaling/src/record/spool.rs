//! Where records wait while the store does not take them: lines of JSON in a file, oldest first.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::store::RecordChange;

/// The file, and how far it was taken in. Everything here blocks.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    rejected: PathBuf,
    length: u64,
    taken: u64,
    limit: u64,
}

/// What waits first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) changes: Vec<RecordChange>,
    /// To give to [`Spool::took`].
    pub(super) bytes: u64,
    /// Lines that nobody can read.
    pub(super) unreadable: u64,
}

impl Spool {
    /// What an earlier life has left is in it; a line that it did not finish is not.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(folder.join("records.spool"))?;
        let length = whole_lines(&mut file)?;
        file.set_len(length)?;
        Ok(Self { file, rejected: folder.join("records.rejected"), length, taken: 0, limit })
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.taken >= self.length
    }

    /// How large the file is.
    pub(super) const fn bytes(&self) -> u64 {
        self.length
    }

    /// Adds changes; when this returns they are on the disk. All or none.
    pub(super) fn append(&mut self, changes: &[RecordChange]) -> io::Result<()> {
        let lines = lines(changes)?;
        let length = self.length + lines.len() as u64;
        if length > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the spool is as large as store.spool_mib allows",
            ));
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length = length;
        Ok(())
    }

    /// The first that wait, at most `most`.
    pub(super) fn waiting(&mut self, most: usize) -> io::Result<Waiting> {
        let mut waiting = Waiting::default();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.taken))?;
        let mut reader = BufReader::new(file.take(self.length - self.taken));
        let mut line = Vec::new();
        while waiting.changes.len() < most {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            waiting.bytes += read as u64;
            match serde_json::from_slice(&line) {
                Ok(change) => waiting.changes.push(change),
                Err(_) => waiting.unreadable += 1,
            }
        }
        Ok(waiting)
    }

    /// So many bytes of what waits are in the store now.
    pub(super) fn took(&mut self, bytes: u64) -> io::Result<()> {
        self.taken += bytes;
        if self.is_empty() {
            self.file.set_len(0)?;
            (self.length, self.taken) = (0, 0);
        }
        Ok(())
    }

    /// Puts away what the store will never take, for somebody to look at.
    pub(super) fn reject(&self, change: &RecordChange) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.rejected)?;
        if file.metadata()?.len() > self.limit {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "records.rejected is too large already"));
        }
        file.write_all(&lines(std::slice::from_ref(change))?)
    }
}

fn lines(changes: &[RecordChange]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(changes.len() * 2048);
    for change in changes {
        serde_json::to_writer(&mut lines, change)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let Some(part) = chunk.get_mut(..usize::try_from(end - start).unwrap_or_default()) else { break };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
