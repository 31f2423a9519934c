//! Where the shared libraries are, and what is said when they are not there.
//!
//! Each is looked for by its name, as the system's loader does it, and then in the folders of
//! `PIPELINE_CUDA_LIBRARIES` and of the Python packages of the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`).
//! A library that was opened once is found again by its name, so later calls go to the same file.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::CudaError;

/// A library that is needed: what it is and its file names, the preferred one first.
struct Needed {
    what: &'static str,
    names: &'static [&'static str],
    /// Where Python packages put it, under `nvidia`.
    folders: &'static [&'static str],
    /// What the names of the files begin with that it opens itself, by name only, so that they must be open before.
    companions: Option<&'static str>,
    /// Whether the program can do without.
    optional: bool,
}

const NEEDED: [Needed; 4] = [
    Needed {
        what: "the NVIDIA driver",
        names: &["libcuda.so.1"],
        folders: &[],
        companions: None,
        optional: false,
    },
    Needed {
        what: "cuBLAS",
        names: &["libcublas.so.13", "libcublas.so.12"],
        folders: &["cu13/lib", "cublas/lib"],
        companions: None,
        optional: false,
    },
    Needed {
        what: "cuDNN 9",
        names: &["libcudnn.so.9"],
        folders: &["cudnn/lib"],
        companions: None,
        optional: false,
    },
    Needed {
        what: "NVRTC",
        names: &["libnvrtc.so.13", "libnvrtc.so.12"],
        folders: &["cu13/lib", "cuda_nvrtc/lib"],
        companions: Some("libnvrtc-builtins.so."),
        // Only where the kernels were not compiled at build time.
        optional: cfg!(compiled_kernels),
    },
];

/// Where a library was found, or what was tried.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub library: &'static str,
    /// The name or path that opened, or all that did not.
    pub place: Result<String, Vec<String>>,
    /// Whether the program can do without.
    pub optional: bool,
}

/// Looks for all libraries and keeps those that it finds open.
pub fn find() -> Vec<Found> {
    static OPEN: OnceLock<Vec<(Found, Vec<Library>)>> = OnceLock::new();
    let all = OPEN.get_or_init(|| {
        let folders = folders();
        NEEDED.iter().map(|needed| look(needed, &folders)).collect()
    });
    all.iter().map(|(found, _)| found.clone()).collect()
}

/// Opens all libraries.
pub(super) fn open() -> Result<(), CudaError> {
    for Found { library, place, optional } in find() {
        match place {
            Err(tried) if !optional => return Err(CudaError::Library { library, tried }),
            _ => (),
        }
    }
    Ok(())
}

fn look(needed: &Needed, folders: &[PathBuf]) -> (Found, Vec<Library>) {
    let mut tried = Vec::new();
    let mut found = None;
    let named = needed.names.iter().map(PathBuf::from);
    let packaged = folders.iter().flat_map(|folder| {
        let places = std::iter::once(folder.clone())
            .chain(needed.folders.iter().map(|part| folder.join(part)));
        places
            .flat_map(|place| needed.names.iter().map(move |name| place.join(name)))
            .collect::<Vec<_>>()
    });
    for path in named.chain(packaged) {
        match open_one(path.as_os_str()) {
            Ok(library) => {
                let companions =
                    needed.companions.map(|start| beside(&path, start)).unwrap_or_default();
                let open = companions.into_iter().chain([library]).collect();
                found = Some((path.display().to_string(), open));
                break;
            }
            Err(why) => tried.push(match path.is_file() {
                // It is there and does not open: the loader knows why.
                true => format!("{} ({why})", path.display()),
                false => path.display().to_string(),
            }),
        }
    }
    let (library, optional) = (needed.what, needed.optional);
    match found {
        Some((place, open)) => (Found { library, place: Ok(place), optional }, open),
        None => (Found { library, place: Err(tried), optional }, Vec::new()),
    }
}

/// Opens the files beside `library` whose names begin with `start`.
fn beside(library: &Path, start: &str) -> Vec<Library> {
    let entries = library
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten();
    let wanted = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    wanted.filter_map(|entry| open_one(entry.path().as_os_str()).ok()).collect()
}

fn open_one(name: &OsStr) -> Result<Library, libloading::Error> {
    // SAFETY: NVIDIA's libraries may be opened at any time; they stay open until the program ends.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }
}

/// Folders to look in after the system's own.
fn folders() -> Vec<PathBuf> {
    let given = env::var_os("PIPELINE_CUDA_LIBRARIES").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        env::split_paths(&given).filter(|path| !path.as_os_str().is_empty()).collect();
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(prefix) = env::var_os(name) {
            folders
                .extend(site_packages(Path::new(&prefix)).map(|packages| packages.join("nvidia")));
        }
    }
    if let Some(home) = env::var_os("CUDA_HOME") {
        folders.push(Path::new(&home).join("lib64"));
    }
    folders
}

/// `lib/python3.*/site-packages` of an environment, in order.
fn site_packages(prefix: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path().join("site-packages")).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders.into_iter()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_all_places() {
        let needed = Needed {
            what: "a library",
            names: &["libnot-there.so.1"],
            folders: &["cu13/lib"],
            companions: None,
            optional: false,
        };
        let (found, open) = look(&needed, &[PathBuf::from("/opt/none")]);
        let tried = [
            "libnot-there.so.1",
            "/opt/none/libnot-there.so.1",
            "/opt/none/cu13/lib/libnot-there.so.1",
        ];
        assert_eq!(found.place.unwrap_err(), tried);
        assert!(open.is_empty());
    }

    #[test]
    fn a_file_that_is_no_library_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libbroken.so.1"), "text").unwrap();
        let needed = Needed {
            what: "a library",
            names: &["libbroken.so.1"],
            folders: &[],
            companions: None,
            optional: false,
        };
        let tried = look(&needed, &[folder.path().to_path_buf()]).0.place.unwrap_err();
        assert!(tried[1].contains("libbroken.so.1 ("), "{tried:?}");
    }

    #[test]
    fn without_a_driver_a_gpu_is_refused_and_not_a_crash() {
        if find()[0].place.is_ok() {
            return;
        }
        let fault = crate::gpu::Gpu::open(0).unwrap_err();
        assert!(
            matches!(fault, CudaError::Library { library: "the NVIDIA driver", .. }),
            "{fault}"
        );
    }
}
