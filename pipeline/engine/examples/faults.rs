//! Injects faults into the store and counts what goes wrong: `faults [--count N] [--seed S] [--json] [--program FILE
//! --experiment FILE --kills N [--set KEY=VALUE]…]`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "shared with a test; prints its result"
)]

#[path = "../tests/faults/campaign.rs"]
mod campaign;
#[path = "../tests/faults/damage.rs"]
mod damage;
#[path = "../tests/faults/edits.rs"]
mod edits;
#[path = "../tests/faults/kills.rs"]
mod kills;
#[path = "../tests/faults/project.rs"]
mod project;
#[path = "../tests/faults/random.rs"]
mod random;
#[path = "../tests/faults/shadow.rs"]
mod shadow;
#[path = "../tests/faults/trap.rs"]
mod trap;
#[path = "../tests/faults/trials.rs"]
mod trials;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use campaign::Tally;

/// Edits that only the time of a file's last change of status gives away; they need a pause, so all come at once.
const UNSEEN_EDITS: usize = 200;

struct Arguments {
    count: usize,
    seed: u64,
    json: bool,
    program: Option<PathBuf>,
    experiment: PathBuf,
    set: Vec<String>,
    kills: usize,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let (program, experiment) = (None, PathBuf::new());
        let (set, json) = (Vec::new(), false);
        let mut parsed = Self { count: 1000, seed: 0, json, program, experiment, set, kills: 0 };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--json" {
                parsed.json = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("`{name}`: {error}"));
            match name.as_str() {
                "--count" => parsed.count = number()? as usize,
                "--seed" => parsed.seed = number()?,
                "--kills" => parsed.kills = number()? as usize,
                "--program" => parsed.program = Some(PathBuf::from(&value)),
                "--set" => parsed.set.push(value),
                "--experiment" => parsed.experiment = PathBuf::from(&value),
                _ => return Err(format!("unknown argument `{name}`")),
            }
        }
        Ok(parsed)
    }
}

fn inject(arguments: &Arguments) -> Result<Tally, String> {
    let (started, mut next) = (Instant::now(), 1000);
    let mut observe = |tally: &Tally| {
        if tally.total() >= next {
            next += 1000;
            let (total, violations) = (tally.total(), tally.violations.len());
            eprintln!("{total} faults, {violations} violations, {:.0?}", started.elapsed());
        }
    };
    let drawn = arguments.count.saturating_sub(arguments.kills + UNSEEN_EDITS);
    let mut tally = campaign::campaign(drawn, arguments.seed, &mut observe)?;
    edits::unseen_edits(UNSEEN_EDITS, &mut tally)?;
    if let Some(program) = &arguments.program {
        let (program, experiment) = (program.clone(), arguments.experiment.clone());
        let killer = kills::Killer { program, experiment, set: arguments.set.clone() };
        let mut random = random::Random(arguments.seed);
        killer.kill(arguments.kills, &mut random, &mut tally, &mut observe)?;
    }
    Ok(tally)
}

fn main() -> ExitCode {
    let done = Arguments::parse().and_then(|arguments| Ok((inject(&arguments)?, arguments.json)));
    let (tally, json) = match done {
        Ok(done) => done,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    tally.violations.iter().take(20).for_each(|violation| eprintln!("violation: {violation}"));
    eprintln!("{:#?}", tally.injected);
    let summary =
        format!("faults injected: {}, violations: {}", tally.total(), tally.violations.len());
    if json {
        println!("{}", serde_json::json!(tally));
        eprintln!("{summary}");
    } else {
        println!("{summary}");
    }
    ExitCode::from(u8::from(!tally.violations.is_empty()))
}
