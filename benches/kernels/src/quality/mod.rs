//! Quality beside speed: what ours and theirs do to the same signals, as tables and plots.

pub mod companding;
pub mod concealment;
pub mod digits;
pub mod plot;
pub mod resampling;
pub mod spectrum;
pub mod talk_off;
pub mod voices;

use std::path::Path;

use crate::report::replace;

/// Rewrites what stands between the markers of a document, and the plots in the folder `dsp` beside it.
pub fn write(path: &str) -> Result<(), String> {
    let path = Path::new(path);
    let mut plots = Vec::new();
    for (name, report) in SECTIONS {
        let text = report(&mut plots);
        replace(path, &format!("<!-- {name}:begin -->"), &format!("<!-- {name}:end -->"), &text)?;
    }
    let folder = path.with_extension("");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for (name, svg) in &plots {
        std::fs::write(folder.join(name), svg).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

type Report = fn(&mut Vec<(String, String)>) -> String;

const SECTIONS: [(&str, Report); 4] = [
    ("companding", companding::report),
    ("resampling", resampling::report),
    ("digits", digits::report),
    ("concealment", concealment::report),
];
