//! Where the programs are that a hint names.

use std::path::PathBuf;

use ksched_local::parts;

/// A program's name if the shell finds it, else where we do.
pub(crate) fn at_hand(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Some(program.to_owned());
    }
    let found = ours().into_iter().map(|dir| dir.join(program)).find(|file| file.is_file());
    found.map(|file| file.display().to_string())
}

/// `DIR:DIR:$PATH`, where some of our folders are not on the path yet.
pub(crate) fn path_line() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there: Vec<_> = std::env::split_paths(&path).collect();
    let missing: Vec<_> = ours()
        .into_iter()
        .filter(|dir| dir.is_dir() && !there.contains(dir))
        .map(|dir| dir.display().to_string())
        .collect();
    (!missing.is_empty()).then(|| format!("{}:$PATH", missing.join(":")))
}

/// Beside this program, and what was built or fetched for it.
fn ours() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|us| Some(us.parent()?.to_owned()));
    let cached = parts::cache_dir().ok().map(|cache| cache.join("bin"));
    beside.into_iter().chain(cached).collect()
}
