//! `pipeline doctor`: the machine, the project and the store, and what is wrong with them.

mod gpu;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use engine::total_memory;
use gpu::Gpu;
use serde_json::{Value, json};

use crate::{
    arguments::DoctorArguments,
    console::Console,
    error::{CliError, Exit},
    text::{Table, count, size},
    world::World,
};

pub(super) fn run(
    arguments: &DoctorArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let findings = Findings::gather(world);
    if arguments.json {
        console.json_pretty(&findings.to_json())?;
    } else {
        findings.table(world).lines().iter().try_for_each(|line| console.line(line))?;
    }
    match findings.probe {
        Ok(()) => Ok(Exit::Done),
        Err(source) => Err(CliError::StoreNotWritable { store: world.shown(&world.store), source }),
    }
}

struct Findings {
    cores: usize,
    cpu: Option<String>,
    instructions: Vec<&'static str>,
    memory: Option<u64>,
    gpu: Gpu,
    project: PathBuf,
    /// Whether the project folder holds what makes it one.
    marked: bool,
    store: PathBuf,
    store_exists: bool,
    free: Option<u64>,
    probe: io::Result<()>,
    test_data: Option<PathBuf>,
    n_stages: usize,
}

impl Findings {
    fn gather(world: &World) -> Self {
        let project = world.roots.project.clone();
        let (store, beside) = (world.store.clone(), existing(&world.store));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu_model(),
            instructions: instruction_sets(),
            memory: total_memory(),
            gpu: Gpu::find(),
            marked: project.join("configs").is_dir() || project.join("pipeline.toml").is_file(),
            project,
            store_exists: store.is_dir(),
            free: free_bytes(&beside),
            probe: probe(&beside),
            store,
            test_data: std::env::var_os("PIPELINE_TEST_DATA").map(PathBuf::from),
            n_stages: world.registry.iter().count(),
        }
    }

    fn table(&self, world: &World) -> Table {
        let mut table = Table::default();
        let cpu = self.cpu.as_deref().unwrap_or("of unknown model");
        let sets = self.instructions.join(" ");
        let free = self.free.map_or_else(String::new, |free| format!(", {} free", size(free)));
        let store = match (self.store_exists, &self.probe) {
            (true, Ok(())) => "can be written",
            (false, Ok(())) => "not there yet, can be made",
            (_, Err(_)) => "cannot be written",
        };
        let mark = if self.marked { "" } else { " (no `configs/` or `pipeline.toml` upward)" };
        let data = match &self.test_data {
            None => "not set (PIPELINE_TEST_DATA)".to_owned(),
            Some(path) if path.is_dir() => path.display().to_string(),
            Some(path) => format!("{} (no such folder)", path.display()),
        };
        table.row(["version", env!("CARGO_PKG_VERSION")]);
        table.row(["stages", &self.n_stages.to_string()]);
        table.row(["cpu", &format!("{} {cpu}", count(self.cores, "core"))]);
        table.row(["instructions", if sets.is_empty() { "baseline" } else { &sets }]);
        table.row(["memory", &self.memory.map_or_else(|| "unknown".to_owned(), size)]);
        table.row(["gpu", &self.gpu.line()]);
        table.row(["project", &format!("{}{mark}", self.project.display())]);
        let configs = self.project.join("configs");
        let searched = format!("{}, {}", world.roots.working.display(), configs.display());
        table.row(["configs", &format!("looked for in {searched}")]);
        table.row(["store", &format!("{} ({store}{free})", self.store.display())]);
        table.row(["test data", &data]);
        table
    }

    fn to_json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "stages": self.n_stages,
            "cores": self.cores,
            "cpu": self.cpu,
            "instructions": self.instructions,
            "memory": self.memory,
            "gpu": self.gpu.to_json(),
            "project": self.project,
            "project_found": self.marked,
            "store": self.store,
            "store_exists": self.store_exists,
            "store_writable": self.probe.is_ok(),
            "store_free": self.free,
            "test_data": self.test_data,
        })
    }
}

/// The path, or the nearest above it that exists; where that is a file, nothing can be written below it.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|above| above.exists()).unwrap_or(path).to_owned()
}

/// Writes an empty file and takes it away again.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".pipeline-probe-{}", std::process::id()));
    fs::write(&path, b"")?;
    fs::remove_file(&path)
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Model of the first core by `/proc/cpuinfo`.
fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// Whether `/proc/cpuinfo` lists `flag` for the first core.
#[cfg(target_arch = "x86_64")]
fn cpu_flag(flag: &str) -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        let line = text.lines().find(|line| line.starts_with("flags"));
        line.is_some_and(|line| line.split_whitespace().any(|found| found == flag))
    })
}

/// The instruction sets beyond the baseline that numeric code may use.
fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        // The standard library does not detect it yet.
        ("amx-bf16", cpu_flag("amx_bf16")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&'static str, bool); 0] = [];
    known.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_probed_above() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let store = folder.path().join("a/b/.pipeline");
        assert_eq!(existing(&store), folder.path());
        assert!(probe(&existing(&store)).is_ok());
        assert_eq!(fs::read_dir(folder.path()).map(Iterator::count).ok(), Some(0));
        assert!(free_bytes(folder.path()).is_some());
        fs::write(folder.path().join("a"), b"").expect("a temporary folder can be written");
        assert!(probe(&existing(&store)).is_err());
    }
}
