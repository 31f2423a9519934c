//! Edits of outside files that leave no trace in their size or their own time.

use std::{fs, time::Duration};

use super::{
    campaign::Tally,
    project::{Digests, Project},
    trials::words,
};

/// Edits `n` outside files without a change of size or of their own time, after their digests have been remembered.
///
/// # Errors
/// What keeps the trial from being made.
pub fn unseen_edits(n: usize, tally: &mut Tally) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let project = Project::new().map_err(io)?;
    let cell = |i: usize| format!("[c{i}]\nuse = 'list'\nfile = 'raw-{i}'\n");
    let text: String = (0..n).map(cell).collect();
    fs::write(project.path("configs/raw.toml"), text).map_err(io)?;
    let write = |i: usize, text: &str| fs::write(project.path(&format!("raw-{i}")), text);
    (0..n).try_for_each(|i| write(i, "before")).map_err(io)?;
    // A file younger than this is not remembered.
    std::thread::sleep(Duration::from_millis(2200));
    let run = || -> Result<Digests, String> {
        let ran = project.run(&project.load("raw.toml", &[])?, None);
        ran.map(|ran| ran.digests).map_err(|error| words(&error))
    };
    let before = run()?;
    for i in 0..n {
        let path = project.path(&format!("raw-{i}"));
        let time = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(io)?;
        write(i, "after!").map_err(io)?;
        fs::File::open(&path).and_then(|file| file.set_modified(time)).map_err(io)?;
    }
    let after = run()?;
    for (port, digest) in &before {
        let seen =
            if after.get(port) == Some(digest) { Err("not seen".to_owned()) } else { Ok(()) };
        tally.count("unseen edit", port, seen);
    }
    Ok(())
}
