//! The folder of a run: its name at the beginning, its report at the end.

use std::time::{SystemTime, UNIX_EPOCH};

use super::RunReport;
use crate::{
    error::{RunError, StoreError},
    seal::sealed_object,
    store::{Store, safe},
};

/// Writes the report and the resolved configuration.
pub(super) fn save_report(
    store: &Store,
    resolved: &str,
    report: &RunReport,
) -> Result<(), RunError> {
    let folder = store.root().join("runs").join(&report.run);
    store.replace_synced(&folder.join("experiment.toml"), resolved.as_bytes())?;
    // What a sweep keeps hangs on it.
    store.replace_synced(&folder.join("run.json"), &sealed_object(report))?;
    Ok(())
}

/// Makes the folder of a new run: processes in containers may share an id, and two runs of one process may start within
/// a second, so the folder decides who has the name.
pub(super) fn claim_run(store: &Store, experiment: &str) -> Result<String, RunError> {
    let id = new_run_id(experiment);
    let runs = store.root().join("runs");
    store.disk().make_folders(&runs).map_err(StoreError::io("create", &runs))?;
    let mut n = 1;
    loop {
        let candidate = if n == 1 { id.clone() } else { format!("{id}-{n}") };
        let folder = runs.join(&candidate);
        match store.disk().make_folder(&folder) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(StoreError::io("create", folder)(error).into()),
        }
    }
}

/// Start time in UTC, the experiment and the process, so that ids sort by time and two runs at once differ.
fn new_run_id(experiment: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let pid = std::process::id();
    format!(
        "{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{}-{pid}",
        safe(experiment)
    )
}

/// Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's algorithm).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_780), (2026, 11, 23));
    }
}
