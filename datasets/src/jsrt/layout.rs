//! Finds the files of a release and pairs films with masks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{JsrtEntry, JsrtLayout, JsrtListing, JsrtStructure};
use crate::{DatasetsError, Split};

/// Files by case id.
type ById = BTreeMap<String, PathBuf>;

/// What must pair with what: a group of films, and the masks each of them needs.
struct Group {
    /// The split that the layout gives the films.
    split: Option<Split>,
    /// The films.
    images: ById,
    /// Masks of a part of a structure, and where they were looked for.
    parts: Vec<Part>,
}

/// The masks of one part of a structure.
struct Part {
    structure: JsrtStructure,
    /// Where the masks are looked for, relative to the root.
    pattern: String,
    extension: &'static str,
    masks: ById,
}

/// Lists the release under `root`, without clinical tables.
pub(super) fn list(
    root: &Path,
    structures: &[JsrtStructure],
) -> Result<JsrtListing, DatasetsError> {
    let structures: BTreeSet<JsrtStructure> = structures.iter().copied().collect();
    let (layout, groups) = if let Some(group) = official(root, &structures)? {
        (JsrtLayout::Official, vec![group])
    } else if let Some(groups) = reduced(root, &structures)? {
        (JsrtLayout::Reduced, groups)
    } else {
        let looked_for = [
            "*.IMG",
            "All247images/*.IMG",
            "images_train/*.png",
            "Datasets/JSRT/images_train/*.png",
        ];
        return Err(unknown(root, &looked_for));
    };
    let entries = paired(root, layout, groups)?;
    Ok(JsrtListing { layout, entries, clinical_files: Vec::new() })
}

fn unknown(root: &Path, looked_for: &[&str]) -> DatasetsError {
    let looked_for = looked_for.iter().map(|&pattern| pattern.to_owned()).collect();
    DatasetsError::UnknownLayout { root: root.to_owned(), looked_for }
}

/// The official release, if a raw film is there.
fn official(
    root: &Path,
    structures: &BTreeSet<JsrtStructure>,
) -> Result<Option<Group>, DatasetsError> {
    let mut images = ById::new();
    for folder in [root.to_owned(), root.join("All247images")] {
        collect(&folder, "img", &mut images)?;
    }
    if images.is_empty() {
        return Ok(None);
    }
    let has_folds =
        |folder: &Path| ["fold1", "fold2"].iter().any(|fold| folder.join(fold).is_dir());
    let (prefix, base) = match root.join("scratch") {
        scratch if has_folds(&scratch) => ("scratch/", scratch),
        _ if has_folds(root) || structures.is_empty() => ("", root.to_owned()),
        _ => {
            return Err(unknown(
                root,
                &["scratch/fold1/masks", "scratch/fold2/masks", "fold1/masks", "fold2/masks"],
            ));
        }
    };
    let mut parts = Vec::new();
    for &structure in structures {
        for part in structure.official_folders() {
            let mut masks = ById::new();
            for fold in ["fold1", "fold2"] {
                collect(&base.join(fold).join("masks").join(part), "gif", &mut masks)?;
            }
            let pattern = format!("{prefix}fold1|fold2/masks/{part}");
            parts.push(Part { structure, pattern, extension: "gif", masks });
        }
    }
    Ok(Some(Group { split: None, images, parts }))
}

/// The repack in small PNG, if one of its folders is there.
fn reduced(
    root: &Path,
    structures: &BTreeSet<JsrtStructure>,
) -> Result<Option<Vec<Group>>, DatasetsError> {
    for (prefix, base) in [("", root.to_owned()), ("Datasets/JSRT/", root.join("Datasets/JSRT"))] {
        let mut groups = Vec::new();
        for split in Split::ALL {
            let mut images = ById::new();
            if !collect(&base.join(format!("images_{split}")), "png", &mut images)? {
                continue;
            }
            let mut parts = Vec::new();
            for &structure in structures {
                let folder = format!("{}_gts_{split}", structure.name());
                let mut masks = ById::new();
                collect(&base.join(&folder), "png", &mut masks)?;
                parts.push(Part {
                    structure,
                    pattern: format!("{prefix}{folder}"),
                    extension: "png",
                    masks,
                });
            }
            groups.push(Group { split: Some(split), images, parts });
        }
        if groups.iter().any(|group| !group.images.is_empty()) {
            return Ok(Some(groups));
        }
    }
    Ok(None)
}

/// Adds the files of a folder with this extension, in any case; tells whether the folder is there.
fn collect(folder: &Path, extension: &str, found: &mut ById) -> Result<bool, DatasetsError> {
    let failed = |source| DatasetsError::Read { path: folder.to_owned(), source };
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    for file in files {
        let path = file.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((stem, own)) = name.rsplit_once('.') else { continue };
        if !own.eq_ignore_ascii_case(extension) || name.starts_with('.') {
            continue;
        }
        let id = stem.to_ascii_uppercase();
        if found.insert(id.clone(), path).is_some() {
            return Err(DatasetsError::DuplicateCase { case: id });
        }
    }
    Ok(true)
}

/// Pairs films with masks both ways, and collects all that do not pair before refusing.
fn paired(
    root: &Path,
    layout: JsrtLayout,
    groups: Vec<Group>,
) -> Result<Vec<JsrtEntry>, DatasetsError> {
    let [mut missing, mut extra] = [Vec::new(), Vec::new()];
    let mut entries: BTreeMap<String, JsrtEntry> = BTreeMap::new();
    for Group { split, images, mut parts } in groups {
        for (id, image) in images {
            let mut masks: BTreeMap<JsrtStructure, Vec<PathBuf>> = BTreeMap::new();
            for Part { structure, pattern, extension, masks: own } in &mut parts {
                match own.remove(&id) {
                    Some(mask) => masks.entry(*structure).or_default().push(mask),
                    None => missing.push(format!("{pattern}/{id}.{extension}")),
                }
            }
            let entry = JsrtEntry {
                id: id.clone(),
                layout,
                image,
                masks,
                published_split: split,
                clinical: None,
            };
            if entries.insert(id.clone(), entry).is_some() {
                return Err(DatasetsError::DuplicateCase { case: id });
            }
        }
        let left = parts.iter().flat_map(|part| part.masks.values());
        extra
            .extend(left.map(|path| path.strip_prefix(root).unwrap_or(path).display().to_string()));
    }
    if missing.is_empty() && extra.is_empty() {
        Ok(entries.into_values().collect())
    } else {
        Err(DatasetsError::Unpaired { root: root.to_owned(), missing, extra })
    }
}
