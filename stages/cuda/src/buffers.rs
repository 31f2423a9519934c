//! Values on their way to and from a device.

use crate::{Address, CudaError, Device, Number};

/// A number without padding, any bytes of which are one.
pub(crate) trait Plain: Copy + Default {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for i32 {}
impl Plain for u16 {}
impl Plain for u8 {}

/// The bytes of `values`.
pub(crate) fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: plain numbers have no padding, and the slice covers exactly their memory.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of `values`, to be written.
pub(crate) fn bytes_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`, and any bytes are plain numbers.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Copies `values` to the device.
pub(crate) fn put<T: Plain>(
    device: &mut dyn Device,
    to: Address,
    values: &[T],
) -> Result<(), CudaError> {
    device.upload(to, bytes(values))
}

/// Copies `count` values from the device.
pub(crate) fn get<T: Plain>(
    device: &mut dyn Device,
    from: Address,
    count: usize,
) -> Result<Vec<T>, CudaError> {
    let mut values = vec![T::default(); count];
    device.download(from, bytes_mut(&mut values))?;
    Ok(values)
}

/// The bits of `value` as bf16, rounded to nearest, ties to even.
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of bf16 bits.
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Copies `values` to the device in the format `number`.
pub(crate) fn put_numbers(
    device: &mut dyn Device,
    to: Address,
    number: Number,
    values: &[f32],
) -> Result<(), CudaError> {
    match number {
        Number::F32 => put(device, to, values),
        Number::Bf16 => {
            let bits: Vec<u16> = values.iter().map(|&value| bf16_bits(value)).collect();
            put(device, to, &bits)
        }
    }
}

/// Copies `count` values of the format `number` from the device.
pub(crate) fn get_numbers(
    device: &mut dyn Device,
    from: Address,
    number: Number,
    count: usize,
) -> Result<Vec<f32>, CudaError> {
    match number {
        Number::F32 => get(device, from, count),
        Number::Bf16 => Ok(get::<u16>(device, from, count)?.into_iter().map(bf16_value).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_the_nearest_even() {
        // Eight digits: steps of 1/128 from 1 on; halves go to the even neighbour.
        let cases = [
            (1.0, 1.0),
            (1.004, 1.0 + 1.0 / 128.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
        ];
        for (value, expected) in cases {
            assert_eq!(bf16_value(bf16_bits(value)), expected, "{value}");
        }
        assert!(bf16_value(bf16_bits(f32::NAN)).is_nan());
        assert_eq!(bf16_value(bf16_bits(f32::MAX)), f32::INFINITY);
    }
}
