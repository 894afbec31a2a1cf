//! What a check found, and how that is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could.
    Warning,
    /// Does not work.
    Problem,
    /// Cannot be known, as a rule for lack of privileges.
    Unknown,
}

impl Status {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Stable, for machines.
    pub(crate) id: &'static str,
    pub(crate) status: Status,
    /// What it is here.
    pub(crate) found: String,
    /// Why it matters for media.
    pub(crate) why: &'static str,
    /// The command that changes it, as a shell takes it.
    pub(crate) fix: Option<String>,
    /// What else there is to do, or to do instead.
    pub(crate) note: Option<String>,
    /// Whether it only pays on a server that does nothing else.
    pub(crate) bare_metal: bool,
}

impl Check {
    pub(crate) fn new(id: &'static str, why: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self { id, status, found: found.into(), why, fix: None, note: None, bare_metal: false }
    }

    pub(crate) fn fix(mut self, command: impl Into<String>) -> Self {
        // What is well needs no cure.
        if self.status != Status::Ok {
            self.fix = Some(command.into());
        }
        self
    }

    pub(crate) fn note(mut self, advice: impl Into<String>) -> Self {
        if self.status != Status::Ok {
            self.note = Some(advice.into());
        }
        self
    }

    /// Sets it apart: what is missing there is no fault on a laptop.
    pub(crate) const fn for_bare_metal(mut self, apart: bool) -> Self {
        self.bare_metal = apart;
        self
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The device that would be taken.
    pub(crate) device: &'static str,
    /// The better ones and why not.
    pub(crate) refused: Vec<(&'static str, String)>,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    pub(crate) fn has_problem(&self) -> bool {
        self.checks.iter().any(|check| check.status == Status::Problem)
    }

    /// How many checks count that have this status.
    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| !check.bare_metal && check.status == status).count()
    }

    /// For machines. Keys are only ever added.
    pub(crate) fn json(&self) -> Value {
        let refused =
            self.refused.iter().map(|(device, reason)| json!({ "device": device, "reason": reason }));
        let checks = self.checks.iter().map(|check| {
            json!({
                "id": check.id,
                "status": check.status.name(),
                "found": check.found,
                "why": check.why,
                "fix": check.fix,
                "note": check.note,
                "bare_metal": check.bare_metal,
            })
        });
        json!({
            "version": 1,
            "device": self.device,
            "refused": refused.collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
            "summary": {
                "ok": self.count(Status::Ok),
                "warning": self.count(Status::Warning),
                "problem": self.count(Status::Problem),
                "unknown": self.count(Status::Unknown),
            },
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "media would run on {}", self.device);
        for (device, reason) in &self.refused {
            let _ = writeln!(out, "  not on {device}: {reason}");
        }
        self.section(&mut out, "this host", false);
        self.section(&mut out, "for bare metal: worth it on a server that does nothing else", true);
        let _ = writeln!(
            out,
            "\n{} ok, {} warnings, {} problems, {} unknown",
            self.count(Status::Ok),
            self.count(Status::Warning),
            self.count(Status::Problem),
            self.count(Status::Unknown),
        );
        out
    }

    fn section(&self, out: &mut String, title: &str, bare_metal: bool) {
        let checks: Vec<&Check> = self.checks.iter().filter(|check| check.bare_metal == bare_metal).collect();
        if checks.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{title}");
        let width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
        for check in checks {
            // Apart, what could be better is no warning.
            let status = match check.status {
                Status::Warning if bare_metal => "hint",
                status => status.name(),
            };
            let _ = writeln!(out, "  {status:<8} {:<width$}  {}", check.id, check.found);
            if check.status != Status::Ok {
                let _ = writeln!(out, "           {:<width$}  why: {}", "", check.why);
            }
            if let Some(fix) = &check.fix {
                let _ = writeln!(out, "           {:<width$}  fix: {fix}", "");
            }
            if let Some(note) = &check.note {
                let label = if check.fix.is_some() { "     " } else { "do:  " };
                let _ = writeln!(out, "           {:<width$}  {label}{note}", "");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let good = Check::new("kernel", "old ones lack much", Status::Ok, "6.12").fix("upgrade");
        let bad = Check::new("ports", "others take them", Status::Problem, "taken")
            .fix("sysctl -w a=b")
            .note("now and at every boot");
        let apart = Check::new("isolation", "others run there", Status::Warning, "none").for_bare_metal(true);
        Report {
            device: "udp",
            refused: vec![("af_xdp", "no interface".into())],
            checks: vec![good, bad, apart],
        }
    }

    #[test]
    fn the_table_says_what_is_and_what_to_do() {
        let expected = "\
media would run on udp
  not on af_xdp: no interface

this host
  ok       kernel  6.12
  problem  ports   taken
                   why: others take them
                   fix: sysctl -w a=b
                        now and at every boot

for bare metal: worth it on a server that does nothing else
  hint     isolation  none
                      why: others run there

1 ok, 0 warnings, 1 problems, 0 unknown
";
        assert_eq!(report().text(), expected);
        assert!(report().has_problem());
    }

    #[test]
    fn the_json_has_every_key_always() {
        let json = report().json();
        assert_eq!(json["version"], 1);
        assert_eq!(json["device"], "udp");
        assert_eq!(json["refused"][0], json!({ "device": "af_xdp", "reason": "no interface" }));
        let kernel = json!({
            "id": "kernel", "status": "ok", "found": "6.12", "why": "old ones lack much", "fix": null, "note": null, "bare_metal": false
        });
        assert_eq!(json["checks"][0], kernel);
        assert_eq!(json["checks"][1]["fix"], "sysctl -w a=b");
        assert_eq!(json["summary"], json!({ "ok": 1, "warning": 0, "problem": 1, "unknown": 0 }));
    }
}
