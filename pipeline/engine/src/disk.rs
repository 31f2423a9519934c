//! The one door through which the store touches its files.
//!
//! Every read of a record, every write, rename, sync and removal in the store is one [`Step`] here, so that a test can
//! count the steps, refuse one of them, or stop the world after any of them. Without the feature `faults` a [`Disk`] has
//! no size and each step is the call of the system alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use crate::digest::Digest;

/// One operation on the files of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "faults"),
    allow(dead_code, unreachable_pub, reason = "only tests of faults look into it")
)]
pub enum Step<'a> {
    /// Reads a file.
    Read(&'a Path),
    /// Makes a folder, and those above it that are missing.
    MakeFolder(&'a Path),
    /// Writes a file whole, making it where it is missing; some of these bytes when it fails.
    Write(&'a Path, &'a [u8]),
    /// Adds to the end of a file, making it where it is missing.
    Append(&'a Path),
    /// Waits until a file's bytes are on the disk.
    Sync(&'a Path),
    /// Waits until the names in a folder are on the disk.
    SyncFolder(&'a Path),
    /// Gives a file a second name.
    Link(&'a Path, &'a Path),
    /// Gives a file or folder another name.
    Rename(&'a Path, &'a Path),
    /// Removes a file.
    Remove(&'a Path),
    /// Removes a folder and everything in it.
    RemoveFolder(&'a Path),
    /// Sets the times or the permissions of a file.
    Mark(&'a Path),
    /// Has nothing to do until another process has done something: see [`run_alone`](crate::run_alone).
    Wait,
}

/// Comes between the store and the disk.
#[cfg(feature = "faults")]
pub trait Faults: Send + Sync {
    /// Takes a step by calling `act`, or fails in its place.
    ///
    /// # Errors
    /// The error of the step, or one of its own.
    fn step(&self, step: &Step<'_>, act: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;
}

/// The file system as the store sees it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    #[cfg(feature = "faults")]
    pub(crate) faults: Option<std::sync::Arc<dyn Faults>>,
}

impl Disk {
    #[cfg(not(feature = "faults"))]
    fn step<T>(&self, _: Step<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        act()
    }

    #[cfg(feature = "faults")]
    fn step<T>(&self, step: Step<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(faults) = &self.faults else { return act() };
        let (mut act, mut done) = (Some(act), None);
        faults.step(&step, &mut || {
            if let Some(act) = act.take() {
                done = Some(act()?);
            }
            Ok(())
        })?;
        done.ok_or_else(|| io::Error::other("a step was neither taken nor refused"))
    }

    #[cfg(feature = "faults")]
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.step(Step::Wait, || Ok(()))
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.step(Step::Read(path), || fs::read(path))
    }

    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Read(path), || File::open(path))
    }

    pub(crate) fn digest(&self, path: &Path) -> io::Result<(Digest, u64)> {
        self.step(Step::Read(path), || Digest::of_file(path))
    }

    pub(crate) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::MakeFolder(path), || fs::create_dir(path))
    }

    pub(crate) fn make_folders(&self, path: &Path) -> io::Result<()> {
        self.step(Step::MakeFolder(path), || fs::create_dir_all(path))
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write(path, bytes), || fs::write(path, bytes))
    }

    /// Writes a file that is not there yet; of several writers one succeeds.
    pub(crate) fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write(path, bytes), || {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            // The name is taken: a file that is not whole is a matter of who reads it.
            let _ = file.write_all(bytes);
            Ok(())
        })
    }

    pub(crate) fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Append(path), || {
            OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
        })
    }

    pub(crate) fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Sync(path), || File::open(path)?.sync_all())
    }

    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::SyncFolder(path), || File::open(path)?.sync_all())
    }

    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Link(from, to), || fs::hard_link(from, to))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename(from, to), || fs::rename(from, to))
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path), || fs::remove_file(path))
    }

    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::RemoveFolder(path), || fs::remove_dir_all(path))
    }

    /// Makes a file as young as the clock says.
    pub(crate) fn touch(&self, path: &Path) -> io::Result<()> {
        let open = || OpenOptions::new().write(true).open(path).or_else(|_| File::open(path));
        self.step(Step::Mark(path), || open()?.set_modified(SystemTime::now()))
    }

    /// Takes the right to write a file away, from everybody.
    pub(crate) fn protect(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Mark(path), || {
            let mut permissions = fs::metadata(path)?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(path, permissions)
        })
    }
}
