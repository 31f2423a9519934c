//! RLE Lossless: byte planes packed as `PackBits` packs them.
//!
//! Source: DICOM PS3.5, annex G.

/// Bytes of the header: the number of segments and 15 offsets.
const HEADER: usize = 64;

/// Unpacks the planes of a frame, the most significant byte of a sample first; each has `n_pixels` bytes.
///
/// # Errors
/// What is wrong with the stream.
pub(super) fn decode(
    stored: &[u8],
    n_segments: usize,
    n_pixels: usize,
) -> Result<Vec<Vec<u8>>, &'static str> {
    let header = stored.get(..HEADER).ok_or("it ends within its header")?;
    let numbers: Vec<usize> =
        header.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes) as usize).collect();
    if numbers[0] != n_segments || n_segments >= numbers.len() {
        return Err("its number of segments is not that of the header");
    }
    let starts = &numbers[1..=n_segments];
    (0..n_segments)
        .map(|segment| {
            let end = starts.get(segment + 1).copied().unwrap_or(stored.len());
            let packed = stored.get(starts[segment]..end).ok_or("a segment lies outside it")?;
            unpack(packed, n_pixels)
        })
        .collect()
}

fn unpack(packed: &[u8], n_pixels: usize) -> Result<Vec<u8>, &'static str> {
    let mut plane = Vec::new();
    let mut rest = packed;
    while plane.len() < n_pixels {
        let (&count, after) = rest.split_first().ok_or("a segment ends too early")?;
        rest = match count.cast_signed() {
            -128 => after,
            count @ 0.. => {
                let n_literal = count.unsigned_abs() as usize + 1;
                let (literal, after) =
                    after.split_at_checked(n_literal).ok_or("a segment ends too early")?;
                plane.extend_from_slice(literal);
                after
            }
            count => {
                let (&repeated, after) = after.split_first().ok_or("a segment ends too early")?;
                plane.resize(plane.len() + usize::from(count.unsigned_abs()) + 1, repeated);
                after
            }
        };
    }
    // A segment has an even length, so one byte may be left.
    if plane.len() > n_pixels || rest.len() > 1 {
        return Err("a segment has more bytes than the frame has pixels");
    }
    Ok(plane)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn runs_and_literals_fill_the_plane_exactly() {
        assert_eq!(unpack(&[0xfe, 7, 0x80, 1, 3, 4, 0], 5).unwrap(), [7, 7, 7, 3, 4]);
        for packed in [&[0xfe, 7][..], &[0xfe], &[3, 1, 2], &[]] {
            assert_eq!(unpack(packed, 4), Err("a segment ends too early"));
        }
        assert!(unpack(&[0xfc, 7], 4).is_err(), "five of four");
        assert!(unpack(&[0xfd, 7, 0, 0], 4).is_err(), "bytes behind");
    }
}
