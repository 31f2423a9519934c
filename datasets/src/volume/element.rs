//! Numbers as they lie in volume files.

/// Type of a voxel in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// Decodes fixed-size numbers of one type.
macro_rules! numbers {
    ($bytes:expr, $endian:expr, $convert:expr, $type:ty) => {
        $bytes
            .as_chunks::<{ size_of::<$type>() }>()
            .0
            .iter()
            .map(|&chunk| {
                $convert(match $endian {
                    Endian::Little => <$type>::from_le_bytes(chunk),
                    Endian::Big => <$type>::from_be_bytes(chunk),
                } as f64)
            })
            .collect()
    };
}

impl Element {
    /// Bytes of a voxel.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Decodes all numbers in `bytes` and rounds them to `f32` after `convert`.
    ///
    /// Whole numbers up to 2^24 are exact; a number beyond the range of `f32` becomes infinite.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        endian: Endian,
        convert: impl Fn(f64) -> f64,
    ) -> Vec<f32> {
        let convert = |value: f64| convert(value) as f32;
        match self {
            Self::U8 => bytes.iter().map(|&byte| convert(f64::from(byte))).collect(),
            Self::I8 => bytes.iter().map(|&byte| convert(f64::from(byte.cast_signed()))).collect(),
            Self::U16 => numbers!(bytes, endian, convert, u16),
            Self::I16 => numbers!(bytes, endian, convert, i16),
            Self::U32 => numbers!(bytes, endian, convert, u32),
            Self::I32 => numbers!(bytes, endian, convert, i32),
            Self::U64 => numbers!(bytes, endian, convert, u64),
            Self::I64 => numbers!(bytes, endian, convert, i64),
            Self::F32 => numbers!(bytes, endian, convert, f32),
            Self::F64 => numbers!(bytes, endian, convert, f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_in_both_orders() {
        let same = |value: f64| value;
        assert_eq!(Element::U8.decode(&[0, 255], Endian::Big, same), [0.0, 255.0]);
        assert_eq!(Element::I8.decode(&[0, 255], Endian::Big, same), [0.0, -1.0]);
        let cases: [(Element, Vec<u8>, f32); 8] = [
            (Element::U16, 65_000_u16.to_le_bytes().into(), 65_000.0),
            (Element::I16, (-2_i16).to_le_bytes().into(), -2.0),
            (Element::U32, 70_000_u32.to_le_bytes().into(), 70_000.0),
            (Element::I32, (-70_000_i32).to_le_bytes().into(), -70_000.0),
            (Element::U64, 3_u64.to_le_bytes().into(), 3.0),
            (Element::I64, (-3_i64).to_le_bytes().into(), -3.0),
            (Element::F32, 0.25_f32.to_le_bytes().into(), 0.25),
            (Element::F64, (-0.5_f64).to_le_bytes().into(), -0.5),
        ];
        for (element, mut bytes, expected) in cases {
            assert_eq!(bytes.len(), element.size());
            assert_eq!(element.decode(&bytes, Endian::Little, same), [expected], "{element:?}");
            bytes.reverse();
            let doubled = element.decode(&bytes, Endian::Big, |value| 2.0 * value);
            assert_eq!(doubled, [2.0 * expected], "{element:?}");
        }
    }
}
