//! Where the programs are that hints name.

use std::path::{Path, PathBuf};

use ksched_local::parts;

/// Whether a shell finds a program, after [`path`] was exported.
fn is_at_hand(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(ours()).any(|dir| dir.join(program).is_file())
}

/// `PATH=DIR:DIR:$PATH`, for a terminal that has nothing of ours yet, as a new one has not.
pub(crate) fn path() -> String {
    let dirs: Vec<_> = ours().iter().map(|dir| dir.display().to_string()).collect();
    format!("PATH={}:$PATH", dirs.join(":"))
}

/// Those of `programs` that are not at hand, and how to get them.
pub(crate) fn lacking(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs.iter().copied().filter(|program| !is_at_hand(program)).collect();
    (!missing.is_empty())
        .then(|| format!("`make tools` gets {}, which is missing here.", missing.join(" and ")))
}

/// Beside this program, and what was fetched for it.
fn ours() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|us| us.parent().map(Path::to_owned));
    let fetched = parts::cache_dir().ok().map(|cache| cache.join("bin"));
    beside.into_iter().chain(fetched).collect()
}
