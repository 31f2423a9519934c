//! The folder in which a program works: what it finds there, and what it must leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};

use super::{Exec, ExecConfig, ExecError, config::is_file_name};
use crate::{
    ports::{Arity, Bound, Input, InputPort, MadeOutput},
    stage::{Ctx, External},
};

/// What lies in the folder beside the files of the project.
pub(super) const OWN: [&str; 4] = [INPUTS, OUTPUTS, TEMPORARY, REQUEST];
const INPUTS: &str = "inputs";
const OUTPUTS: &str = "outputs";
const TEMPORARY: &str = "tmp";
const REQUEST: &str = "request.json";

/// The files of the project that a program reads: those listed, and all below the folders that are.
pub(super) fn externals(config: &ExecConfig, project: &Path) -> Result<Vec<External>, ExecError> {
    let mut found = BTreeMap::new();
    for name in &config.files {
        gather(name, &project.join(name), &mut found)?;
    }
    for word in &config.argv {
        let relative = !word.is_empty() && Path::new(word).is_relative();
        let name = word.strip_prefix("./").unwrap_or(word);
        if relative && !found.contains_key(name) && project.join(name).is_file() {
            return Err(ExecError::NotListed { name: name.to_owned() });
        }
    }
    Ok(found.into_iter().map(|(name, path)| External { name, path }).collect())
}

/// Lists a file, or what is below a folder but for what is hidden and what Python keeps of its own.
fn gather(name: &str, path: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), ExecError> {
    if path.is_file() {
        found.insert(name.to_owned(), path.to_owned());
        return Ok(());
    }
    if !path.is_dir() {
        return Err(ExecError::NoFile { path: path.to_owned() });
    }
    for entry in fs::read_dir(path).map_err(ExecError::io("list", path))? {
        let entry = entry.map_err(ExecError::io("list", path))?;
        let below = entry.file_name().to_string_lossy().into_owned();
        if !below.starts_with('.') && below != "__pycache__" {
            gather(&format!("{name}/{below}"), &entry.path(), found)?;
        }
    }
    Ok(())
}

/// A folder that is ready for a program.
pub(super) struct Room<'a> {
    stage: &'a Exec,
    ctx: &'a Ctx<'a>,
    folder: PathBuf,
    /// What the request says of each input port.
    inputs: Value,
}

impl<'a> Room<'a> {
    /// Lays files, inputs and places for outputs out in the scratch folder of a cell.
    pub(super) fn prepare(
        stage: &'a Exec,
        bound: &Bound,
        ctx: &'a Ctx<'a>,
    ) -> Result<Self, ExecError> {
        let scratch = ctx.scratch();
        let folder = std::path::absolute(scratch).map_err(ExecError::io("find", scratch))?;
        for External { name, path } in ctx.externals() {
            let copy = folder.join(name);
            make_folder(copy.parent().unwrap_or(&folder))?;
            fs::copy(path, &copy).map_err(ExecError::io("copy", path))?;
        }
        let outputs = stage.outputs.iter().map(|port| folder.join(OUTPUTS).join(port.name));
        let own = [folder.join(TEMPORARY), folder.join(INPUTS), ctx.checkpoints().to_owned()];
        outputs.chain(own).try_for_each(|path| make_folder(&path))?;
        let mut inputs = serde_json::Map::new();
        for port in &stage.inputs {
            let artifacts = bound.get(port.name).map(Vec::as_slice).unwrap_or_default();
            let listed = artifacts.iter().enumerate();
            let listed = listed.map(|(i, input)| lay_out(&folder, port, i, input));
            inputs.insert(port.name.to_owned(), listed.collect::<Result<_, _>>()?);
        }
        Ok(Self { stage, ctx, folder, inputs: inputs.into() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program's file: in the room by a name with a slash, else by `PATH`.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf, ExecError> {
        let missing = || ExecError::NoProgram { name: name.to_owned() };
        if name.contains('/') {
            return Some(self.folder.join(name)).filter(|path| path.is_file()).ok_or_else(missing);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
        places.find(|place| place.is_file()).ok_or_else(missing)
    }

    /// The request, as the program's standard input.
    pub(super) fn request(&self, config: &ExecConfig) -> Result<Stdio, ExecError> {
        let output = |(port, output): (&String, &super::ExecOutput)| {
            let folder = format!("{OUTPUTS}/{port}");
            let value = json!({ "kind": output.kind, "folder": folder, "files": output.files });
            (port.clone(), value)
        };
        let outputs: serde_json::Map<String, Value> = config.outputs.iter().map(output).collect();
        let checkpoints = std::path::absolute(self.ctx.checkpoints())
            .map_err(ExecError::io("find", self.ctx.checkpoints()))?;
        let request = json!({
            "config": config.config,
            "rng_seed": config.rng_seed,
            "shard": Some(self.ctx.shard()).filter(|shard| !shard.is_empty()),
            "inputs": self.inputs,
            "outputs": outputs,
            "scratch": TEMPORARY,
            "checkpoints": checkpoints,
            "threads": self.ctx.threads(),
            "gpus": self.ctx.gpus(),
        });
        let path = self.folder.join(REQUEST);
        fs::write(&path, request.to_string()).map_err(ExecError::io("write", &path))?;
        Ok(File::open(&path).map_err(ExecError::io("read", path))?.into())
    }

    /// All variables that the program sees.
    pub(super) fn environment(&self, config: &ExecConfig) -> BTreeMap<OsString, OsString> {
        let of_run = |name: &str| Some((name.into(), std::env::var_os(name)?));
        let fixed = [
            ("HOME", self.folder.clone().into_os_string()),
            ("TMPDIR", self.folder.join(TEMPORARY).into_os_string()),
            ("LANG", "C.UTF-8".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
            ("OMP_NUM_THREADS", self.ctx.threads().to_string().into()),
        ];
        let devices = ("CUDA_VISIBLE_DEVICES".into(), self.ctx.gpus().join(",").into());
        let mut all: BTreeMap<OsString, OsString> = of_run("PATH").into_iter().collect();
        all.extend(fixed.map(|(name, value)| (name.into(), value)));
        all.extend(config.env.iter().map(|(name, value)| (name.into(), value.into())));
        all.extend(config.pass.iter().filter_map(|name| of_run(name)));
        // Last: the devices of other cells are not to be had by any setting.
        all.extend([devices]);
        all
    }

    /// What the program has made, if that is what the cell says and nothing else.
    pub(super) fn made(
        &self,
        config: &ExecConfig,
    ) -> Result<Vec<(&'static str, MadeOutput)>, ExecError> {
        let root = self.folder.join(OUTPUTS);
        let ports: BTreeSet<&str> = self.stage.outputs.iter().map(|port| port.name).collect();
        if let Some(name) = names(&root)?.into_iter().find(|name| !ports.contains(name.as_str())) {
            return Err(ExecError::Foreign { name, what: "no output of the cell" });
        }
        let mut made = Vec::new();
        for port in &self.stage.outputs {
            let expected = &config.outputs[port.name].files;
            let folder = root.join(port.name);
            self.check(port.name, &folder, expected)?;
            made.push((port.name, MadeOutput { folder, contents: BTreeMap::new() }));
        }
        Ok(made)
    }

    fn check(
        &self,
        port: &'static str,
        folder: &Path,
        expected: &[String],
    ) -> Result<(), ExecError> {
        let found = names(folder)?;
        for name in &found {
            let path = folder.join(name);
            let kind = fs::symlink_metadata(&path).map_err(ExecError::io("read", &path))?;
            let what = match kind.file_type() {
                kind if kind.is_dir() => "a folder: an output has files alone",
                kind if !kind.is_file() => "not a plain file",
                _ if !is_file_name(name) => "a file with a name that no part may have",
                _ => continue,
            };
            return Err(ExecError::Foreign { name: format!("{port}/{name}"), what });
        }
        let wanted: BTreeSet<&String> = expected.iter().collect();
        let there: BTreeSet<&String> = found.iter().collect();
        let whole = if wanted.is_empty() { !there.is_empty() } else { there == wanted };
        if whole {
            return Ok(());
        }
        let mut missing = wanted.difference(&there);
        let astray = missing.find(|name| self.folder.join(name).is_file());
        let astray = astray.map(|name| (*name).clone());
        Err(ExecError::OtherFiles { port, expected: expected.to_vec(), found, astray })
    }
}

fn make_folder(path: &Path) -> Result<(), ExecError> {
    fs::create_dir_all(path).map_err(ExecError::io("create", path))
}

/// Names of the entries of a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, ExecError> {
    let entries = fs::read_dir(folder).map_err(ExecError::io("list", folder))?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry.map_err(ExecError::io("list", folder))?.file_name().to_string_lossy().into_owned())
    };
    let mut names = entries.map(name).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}

/// Links the parts of an artifact into a folder of their own and describes it.
fn lay_out(root: &Path, port: &InputPort, i: usize, input: &Input) -> Result<Value, ExecError> {
    let folder = format!("{INPUTS}/{}/{i}", port.name);
    make_folder(&root.join(&folder))?;
    for part in &input.parts {
        if !is_file_name(&part.name) {
            return Err(ExecError::BadPart { port: port.name, name: part.name.clone() });
        }
        let link = root.join(&folder).join(&part.name);
        let file = std::path::absolute(&part.path).map_err(ExecError::io("find", &part.path))?;
        symlink(file, &link).map_err(ExecError::io("link", link))?;
    }
    let files: Vec<&str> = input.parts.iter().map(|part| part.name.as_str()).collect();
    let mut described = json!({ "kind": port.kind, "folder": folder, "files": files });
    if port.arity == Arity::Named {
        // On other ports the name of the cell is not part of the key.
        described["cell"] = json!(input.cell);
    }
    Ok(described)
}
