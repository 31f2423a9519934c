//! One to three kinds of damage in one of the files of a seed.

use std::io;

use datasets::Stream;

use super::seeds::{Packing, Seed, stored};

/// Numbers that readers trip over.
const NUMBERS: [u64; 10] =
    [0, 1, 127, 128, 255, 32_767, 65_535, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// Words that text headers trip over.
const WORDS: [&str; 10] =
    ["-1", "0", "nan", "inf", "99999999999999999999", "1e308", "../x", "\n", "LIST", "="];

/// Longest file that mutations make out of a small one.
const LONGEST: usize = 1 << 16;

/// The files of a seed with damage in one of them.
pub(crate) fn files(seed: &Seed, stream: &mut Stream) -> io::Result<Vec<Vec<u8>>> {
    let hit = stream.below(seed.files.len());
    let mut files = Vec::new();
    for (n, file) in seed.files.iter().enumerate() {
        if n != hit {
            files.push(stored(file)?);
            continue;
        }
        // Damage within keeps the checksums of what is compressed whole.
        let is_within = file.packing != Packing::Plain && stream.below(2) == 0;
        let mut damaged = file.clone();
        if is_within {
            damage(&mut damaged.bytes, stream);
        }
        let mut bytes = stored(&damaged)?;
        if !is_within {
            damage(&mut bytes, stream);
        }
        files.push(bytes);
    }
    Ok(files)
}

fn damage(bytes: &mut Vec<u8>, stream: &mut Stream) {
    for _ in 0..=stream.below(3) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let place = stream.below(bytes.len());
        // What changes the length is mostly refused at once, so it comes less often.
        match stream.below(12) {
            0 | 8 | 9 => bytes[place] ^= 1 << stream.below(8),
            1 | 10 => bytes[place] = stream.below(256) as u8,
            2 | 11 => number(bytes, place, stream),
            3 => insert(bytes, place, WORDS[stream.below(WORDS.len())].as_bytes()),
            4 => bytes.truncate(place),
            5 => {
                let end = (place + 1 + stream.below(16)).min(bytes.len());
                bytes.drain(place..end);
            }
            6 => {
                let end = (place + 1 + stream.below(64)).min(bytes.len());
                let twice = bytes[place..end].to_vec();
                insert(bytes, stream.below(bytes.len()), &twice);
            }
            _ => digits(bytes, place, stream),
        }
    }
}

/// Overwrites 1 to 8 bytes in either order.
fn number(bytes: &mut [u8], place: usize, stream: &mut Stream) {
    let number = NUMBERS[stream.below(NUMBERS.len())];
    let width = [1, 2, 4, 8][stream.below(4)].min(bytes.len() - place);
    let written = match stream.below(2) {
        0 => number.to_le_bytes()[..width].to_vec(),
        _ => number.to_be_bytes()[8 - width..].to_vec(),
    };
    bytes[place..place + width].copy_from_slice(&written);
}

/// Replaces the next run of digits by another number.
fn digits(bytes: &mut Vec<u8>, place: usize, stream: &mut Stream) {
    let Some(start) = bytes[place..].iter().position(u8::is_ascii_digit) else { return };
    let start = place + start;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[stream.below(NUMBERS.len())].to_string();
    bytes.splice(start..start + length, number.into_bytes());
}

fn insert(bytes: &mut Vec<u8>, place: usize, inserted: &[u8]) {
    if bytes.len() + inserted.len() <= LONGEST {
        bytes.splice(place..place, inserted.iter().copied());
    }
}
