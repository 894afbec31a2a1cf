//! Talk-off: the digits that ours and spandsp's receiver hear in recordings of speech, where no digit is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use engine::wav::{self, LoadError, LoadErrorReason};

use super::digits::candidates;

/// All WAV files of a folder, one after the other.
pub fn run(folder: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    find_wavs(folder, &mut files)?;
    files.sort();
    let candidates = candidates();
    let mut heard = vec![0; candidates.len()];
    let mut samples = 0;
    let mut text = String::new();
    for file in &files {
        let pcm = match wav::load(file) {
            Ok(pcm) => pcm,
            Err(LoadError { reason: LoadErrorReason::Empty, .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        samples += pcm.len();
        for (candidate, heard) in candidates.iter().zip(&mut heard) {
            let digits = (candidate.digits)(&pcm);
            *heard += digits.len();
            if !digits.is_empty() {
                let _ = writeln!(text, "{} heard {digits:?} in {}", candidate.name, file.display());
            }
        }
    }
    let _ = write!(text, "{:.1} minutes of {} files", samples as f64 / 480_000.0, files.len());
    for (candidate, heard) in candidates.iter().zip(&heard) {
        let _ = write!(text, "; {}: {heard}", candidate.name);
    }
    // Ours stands first.
    if heard[0] == 0 && samples > 0 { Ok(text) } else { Err(text) }
}

fn find_wavs(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            find_wavs(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            files.push(path);
        }
    }
    Ok(())
}
