//! The stages of both programs: one that does as it is told on a device, and trainings on a device that is the CPU.

use std::{fs, path::PathBuf, thread, time::Duration};

use nets::{Accelerator, Backend, Cpu, NetsError, TrainingConfig};
use pipeline::{
    Artifact, Ctx, Exec, FailureClass, Out, Registry, Stage, StageError, inputs, outputs,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) fn registry() -> Registry {
    let registry = Registry::new().with(Exec::register).with(stages::register_on::<Disguise>);
    registry.with(|registry: &mut Registry| registry.add::<OnDevice>())
}

/// Leaves trainings to another program, and there does them by the cores.
struct Disguise;

impl Accelerator for Disguise {
    const PRESENT: bool = false;

    fn open(_: &str, _: &TrainingConfig) -> Result<Box<dyn Backend>, NetsError> {
        Ok(Box::new(Cpu))
    }
}

struct Text;
impl Artifact for Text {
    const KIND: &'static str = "text";
}

inputs! { struct NoneIn {} }
outputs! { struct TextOut { text: Out<Text> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OnDeviceConfig {
    /// What it does.
    how: String,
    /// A file that is there when it has begun, with the number of its process.
    #[serde(default)]
    place: PathBuf,
}

/// Does as it is told, in another program.
struct OnDevice;
impl Stage for OnDevice {
    const NAME: &'static str = "on_device";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Does as it is told.";
    const NONSEMANTIC: &'static [&'static str] = &["place"];
    type Config = OnDeviceConfig;
    type Inputs = NoneIn;
    type Outputs = TextOut;

    fn gpus(_: &OnDeviceConfig) -> usize {
        1
    }

    fn program(_: &OnDeviceConfig) -> Option<&'static str> {
        Some("pipeline-cuda")
    }

    fn run(
        config: &OnDeviceConfig,
        _: NoneIn,
        outputs: &TextOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        match config.how.as_str() {
            "refuse" => {
                let cause = std::io::Error::other("it is too warm");
                Err(StageError::new(cause).hint("open a window"))
            }
            "memory" => Err(StageError::new("no room").of_class(FailureClass::Memory)),
            "full" => Err(StageError::new(std::io::Error::from_raw_os_error(28))),
            "panic" => unreachable!("a bug over there"),
            "wait" => wait(config, outputs, ctx),
            _ => {
                let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
                ctx.log(&format!("devices {visible} and {}", ctx.gpus().join(",")));
                ctx.progress(0.5, "half way");
                outputs.text.write("text.txt", b"done")
            }
        }
    }
}

/// Waits until it is told to stop, and leaves a checkpoint, from which it ends at once the next time.
fn wait(config: &OnDeviceConfig, outputs: &TextOut, ctx: &Ctx<'_>) -> Result<(), StageError> {
    let checkpoint = ctx.checkpoints().join("state");
    if checkpoint.exists() {
        return outputs.text.write("text.txt", b"gone on");
    }
    ctx.progress(0.25, "waiting");
    let new = config.place.with_extension("new");
    fs::write(&new, std::process::id().to_string()).map_err(StageError::new)?;
    fs::rename(&new, &config.place).map_err(StageError::new)?;
    while !ctx.is_cancelled() {
        thread::sleep(Duration::from_millis(2));
    }
    fs::create_dir_all(ctx.checkpoints()).map_err(StageError::new)?;
    fs::write(&checkpoint, "").map_err(StageError::new)?;
    Err(StageError::new("told to stop"))
}
