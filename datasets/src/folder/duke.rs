//! Duke-Breast-Cancer-MRI as The Cancer Imaging Archive gives it: which series is which phase.
//!
//! Source: Saha et al., Br. J. Cancer 119 (2018), the data set; the descriptions of its series as the MAEMI project
//! lists them. Folders must have their descriptive names, `<number>-<description>-<digits of the UID>`, in which
//! characters such as `/` may be lost. Where the table of paths lies beside the series, it decides instead.

mod boxes;
mod clinical;
mod mapping;
#[cfg(test)]
mod miniature;
mod tables;

pub use boxes::Bounds;
pub use tables::{DukeTables, TableFiles};

use tables::plain;

/// Descriptions of series before contrast, letters and digits only, in lower case.
const BEFORE: [&str; 9] = [
    "axvibrantmultiphase",
    "ax3ddyn",
    "ax3ddynmp",
    "ax3ddynpre",
    "ax3dpre",
    "axdyn",
    "axdynpre",
    "axdynamic",
    "t1fl3dtradynviewsspairpre",
];

/// Beginnings of descriptions that go on with the number of the pass of contrast.
const BEFORE_PASS: [&str; 3] = ["ax3ddyn", "axdyn", "t1fl3dtradynviewsspair"];

const ORDINALS: [&str; 4] = ["1st", "2nd", "3rd", "4th"];

/// Name of the channel of a folder of slices: `phase_0` before contrast, `phase_1` to `phase_4` after it.
///
/// `None` for what is no phase: the T1 series without fat suppression, segmentations, and unknown descriptions.
pub(super) fn channel(folder: &str) -> Option<String> {
    let (number, rest) = folder.split_once('-')?;
    let (description, digits) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_number(number) || !is_number(digits) {
        return None;
    }
    phase(&plain(description)).map(|phase| format!("phase_{phase}"))
}

fn phase(description: &str) -> Option<usize> {
    if BEFORE.contains(&description) {
        return Some(0);
    }
    let after = |(n, ordinal): (usize, &&str)| {
        let phase = n + 1;
        let numbered = description.strip_prefix(&format!("ph{phase}"));
        let is_numbered = numbered.is_some_and(|rest| BEFORE.contains(&rest));
        // One series is misspelt `1st pas`.
        let is_pass = BEFORE_PASS.iter().any(|start| {
            let rest = description.strip_prefix(start).and_then(|rest| rest.strip_prefix(*ordinal));
            matches!(rest, Some("pass" | "pas"))
        });
        (is_numbered || is_pass || description == format!("{ordinal}axdyn")).then_some(phase)
    };
    ORDINALS.iter().enumerate().find_map(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All descriptions that the MAEMI project found, as folders spell them.
    #[test]
    fn descriptions_of_the_release_become_phases() {
        let expected = [
            (0, "Ax Vibrant MultiPhase|ax 3d dyn|ax 3d dyn MP|ax 3d dyn pre|ax 3d pre|ax dyn"),
            (0, "ax dyn pre|ax dynamic|t1_fl3d_tra_dynVIEWS_spair_ pre"),
            (
                1,
                "1st ax dyn|Ph1/Ax Vibrant MultiPhase|Ph1ax 3d dyn|ax 3d dyn 1st pass|ax dyn 1st pas",
            ),
            (2, "2nd ax dyn|Ph2/ax 3d dyn MP|t1_fl3d_tra_dynVIEWS_spair 2nd pass"),
            (3, "3rd ax dyn|Ph3/ax dyn|t1_fl3d_tra_dynVIEWS_spair_3rd pass|ax dyn 3rd pass"),
            (4, "4th ax dyn|Ph4/ax dynamic|ax 3d dyn 4th pass|Ph4-ax dyn"),
        ];
        for (phase, descriptions) in expected {
            for description in descriptions.split('|') {
                let folder = format!("4.000000-{description}-50767");
                assert_eq!(channel(&folder), Some(format!("phase_{phase}")), "{folder}");
            }
        }
        let others = "ax t1|Ax 3D T1 NON FS|AX IDEAL Breast|ax t1 pre|Segmentation|Ph5/ax dyn|5th ax dyn|ax dyn 1st";
        for description in others.split('|') {
            assert_eq!(channel(&format!("3.000000-{description}-1")), None, "{description}");
        }
        for folder in
            ["1.3.6.1.4.1.14519.5.2.1.1", "ax dyn", "4.000000-ax dyn", "x-ax dyn-1", "4.0-ax dyn-ä"]
        {
            assert_eq!(channel(folder), None, "{folder}");
        }
    }
}
