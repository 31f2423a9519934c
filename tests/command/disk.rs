//! Places where results cannot be stored or said: refused before any work, or told with what to do, with nothing lost.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::world::{SMALL, Said, World, cells, not_run};

#[test]
fn a_store_that_cannot_be_made() {
    let world = World::small(SMALL);
    for (store, cause) in [
        ("small.toml", "Not a directory (os error 20)"),
        ("small.toml/store", "Not a directory (os error 20)"),
        ("/proc/nope", "No such file or directory (os error 2)"),
    ] {
        let at = if store.starts_with('/') { store.to_owned() } else { format!("DIR/{store}") };
        world.refused(
            1,
            &["run", "small.toml", "--store", store],
            &format!(
                "\
error: cannot make or write the store `{at}`
caused by: {cause}
hint: name a folder that you may write with --store DIR or PIPELINE_STORE
"
            ),
        );
    }
    let plan = world.call(&["plan", "small.toml", "--store", "/proc/nope"]);
    assert_eq!(plan.code, Some(0), "a plan needs no store: {plan:?}");
}

#[test]
fn an_output_that_cannot_be_written() {
    let world = World::small(SMALL);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for arguments in
        [&["plan", "small.toml"][..], &["stages"], &["run", "small.toml", "--only", "cases", "-q"]]
    {
        let said = world.said(world.command(arguments).stdout(full()).output().unwrap());
        assert_eq!(
            (said.code, said.talk.as_str()),
            (
                Some(1),
                "error: cannot write to stdout\ncaused by: No space left on device (os error 28)\n"
            ),
            "{arguments:?}"
        );
    }
    let deaf = ["run", "small.toml", "--only", "cases"];
    let said = world.said(world.command(&deaf).stderr(full()).output().unwrap());
    assert_eq!(said.code, Some(0), "talk that nobody can hear is no reason to fail");
    assert!(said.data.contains("0 built, 1 fresh"), "{said:?}");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("\"$0\" schema | head -c 1").arg(env!("CARGO_BIN_EXE_pipeline"));
    let said = world.said(shell.current_dir(world.root()).output().unwrap());
    assert_eq!((said.data.as_str(), said.talk.as_str()), ("{", ""), "a closed pipe is no error");
}

/// A shell script with the command as `$0`, in a name space of its own, where a small file system lies at `full/`.
fn in_small_file_system(world: &World, script: &str) -> Option<Said> {
    fs::create_dir_all(world.path("full")).unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c"]);
    shell.arg(format!("mount -t tmpfs -o size=300k tmpfs full || exit 99\n{script}"));
    shell.arg(env!("CARGO_BIN_EXE_pipeline")).current_dir(world.root()).stdin(Stdio::null());
    let said = shell.output().map(|output| world.said(output));
    match said {
        Ok(said) if said.code != Some(99) && !said.talk.starts_with("unshare:") => Some(said),
        refused => {
            not_run(&format!("a full disk: no small file system can be mounted: {refused:?}"));
            None
        }
    }
}

#[test]
fn a_full_disk() {
    let world = World::small(SMALL);
    let script = "\
\"$0\" run small.toml --store full/store --jobs 1 --json --quiet; echo \"exit $?\"
mount -o remount,size=64m full
\"$0\" run small.toml --store full/store --json --quiet; echo \"exit $?\"
find full/store/tmp -type f
";
    let Some(said) = in_small_file_system(&world, script) else {
        return;
    };
    assert!(said.has(&["caused by: No space left on device (os error 28)"]), "{said:#?}");
    let hint = "hint: free space in the store's file system or move the store with --store DIR";
    assert!(said.has(&[hint]), "{said:#?}");
    let lines: Vec<&str> = said.data.lines().collect();
    // Where not even the report of the failed run could be stored, it has none.
    let (first, rest) = lines.split_at(lines.iter().position(|line| *line == "exit 1").unwrap());
    assert_eq!(rest[2..], ["exit 0"], "nothing is left in `tmp/`: {said:#?}");
    let after: Value = serde_json::from_str(rest[1]).unwrap();
    assert_eq!(after["failed"], 0);
    if let Some(before) = first.first() {
        let before: Value = serde_json::from_str(before).unwrap();
        assert_eq!(cells(&before, "built"), cells(&after, "fresh"), "{said:#?}");
    }
    assert!(!cells(&after, "fresh").is_empty(), "something had been finished: {said:#?}");
}

#[test]
fn files_that_may_not_grow() {
    let world = World::small(SMALL);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("trap '' XFSZ; ulimit -f 8; exec \"$0\" run small.toml --quiet");
    shell
        .arg(env!("CARGO_BIN_EXE_pipeline"))
        .current_dir(world.root())
        .env_remove("PIPELINE_STORE");
    let said = world.said(shell.output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.has(&["caused by: File too large (os error 27)"]), "{said:?}");
    assert_eq!(world.built(&["--quiet"]).len(), 8, "the next run has room");
}
