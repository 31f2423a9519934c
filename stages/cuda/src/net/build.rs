//! Planning of a network: the memory of all its buffers, and its convolutions made ready.

use kernels::Volume;

use super::{DecoderBuffers, LevelBuffers, Scratch, UnitBuffers};
use crate::{
    Address, Arena, CudaError, Device, NetLayout, Number,
    launches::AdamAt,
    layout::{DecoderLayout, UnitLayout, check_len},
};

/// Takes memory and gets all convolutions ready.
pub(super) struct Builder<'a> {
    pub(super) device: &'a mut dyn Device,
    pub(super) arena: &'a mut Arena,
    pub(super) number: Number,
    pub(super) workspace: usize,
}

impl Builder<'_> {
    pub(super) fn values(&mut self, count: usize) -> Result<Address, CudaError> {
        self.arena.take(self.device, count * self.number.n_bytes())
    }

    /// f32 that begin as zeros.
    pub(super) fn floats(&mut self, count: usize) -> Result<Address, CudaError> {
        let at = self.arena.floats(self.device, count)?;
        self.device.zero(at, 4 * count)?;
        Ok(at)
    }

    fn units(
        &mut self,
        units: &[UnitLayout; 2],
        volume: Volume,
    ) -> Result<[UnitBuffers; 2], CudaError> {
        let mut unit = |unit: &UnitLayout| {
            self.workspace =
                self.workspace.max(self.device.prepare_conv(&unit.shape(volume, self.number))?);
            let len = volume.n_pixels() * unit.n_outputs;
            let (convolved, output) = (self.values(len)?, self.values(len)?);
            Ok(UnitBuffers { convolved, output, stats: self.floats(4 * unit.n_outputs)? })
        };
        Ok([unit(&units[0])?, unit(&units[1])?])
    }

    pub(super) fn level(
        &mut self,
        units: &[UnitLayout; 2],
        volume: Volume,
    ) -> Result<LevelBuffers, CudaError> {
        let input = self.values(volume.n_pixels() * units[0].n_inputs)?;
        Ok(LevelBuffers { input, units: self.units(units, volume)? })
    }

    pub(super) fn decoder(
        &mut self,
        decoder: &DecoderLayout,
        volumes: &[Volume],
    ) -> Result<Vec<DecoderBuffers>, CudaError> {
        let levels = decoder.ups.iter().zip(&decoder.blocks).zip(volumes);
        let buffers = levels.map(|((up, units), &volume)| {
            let product = self.values(volume.n_pixels() * up.n_outputs)?;
            let joined = self.values(volume.n_pixels() * units[0].n_inputs)?;
            Ok(DecoderBuffers { product, joined, units: self.units(units, volume)? })
        });
        buffers.collect()
    }

    pub(super) fn scratch(
        &mut self,
        layout: &NetLayout,
        volumes: &[Volume],
    ) -> Result<Scratch, CudaError> {
        let decoders =
            layout.decoders.iter().flat_map(|decoder| decoder.blocks.iter().zip(volumes));
        let blocks: Vec<_> = layout.encoder.iter().zip(volumes).chain(decoders).collect();
        let most = |of: &dyn Fn(&[UnitLayout; 2]) -> usize| {
            blocks.iter().map(|(units, volume)| volume.n_pixels() * of(units)).max().unwrap_or(0)
        };
        let outputs = most(&|units| units[1].n_outputs.max(units[0].n_outputs));
        let inputs = most(&|units| units[0].n_inputs);
        let units = || blocks.iter().flat_map(|(units, _)| units.iter());
        let channels = units().map(|unit| unit.n_outputs).max().unwrap_or(0);
        let weights = units().map(|unit| unit.n_weights()).max().unwrap_or(0);
        Ok(Scratch {
            // The gradient of a pooled input passes through `above`, which has fewer channels than a block's input.
            above: self.values(outputs.max(inputs))?,
            below: self.values(outputs.max(inputs))?,
            between: self.values(outputs)?,
            joined: self.values(inputs)?,
            slopes: self.floats(2 * channels)?,
            weights: match self.number {
                Number::F32 => Address::NULL,
                Number::Bf16 => self.values(weights)?,
            },
        })
    }

    pub(super) fn flat(&mut self, count: usize) -> Result<AdamAt, CudaError> {
        Ok(AdamAt {
            values: self.floats(count)?,
            copy: match self.number {
                Number::F32 => Address::NULL,
                Number::Bf16 => self.values(count)?,
            },
            gradients: self.floats(count)?,
            first: self.floats(count)?,
            second: self.floats(count)?,
            state: self.floats(4)?,
            numbers: self.floats(16)?,
            count,
        })
    }
}

/// Axes of each level; every side must be a multiple of all windows on its way down.
pub(super) fn volumes(layout: &NetLayout, volume: Volume) -> Result<Vec<Volume>, CudaError> {
    check_len("the axes of an input (an empty one)", 1, usize::from(volume.n_pixels() > 0))?;
    let mut volumes = vec![volume];
    let mut here = volume;
    for up in &layout.decoders[0].ups {
        let [depth, height, width] = up.stride;
        for (side, window) in [(here.slices, depth), (here.rows, height), (here.columns, width)] {
            if side == 0 || side % window != 0 {
                let allowed = format!("a multiple of {window} at every level");
                return Err(CudaError::Range { what: "a side of the input", allowed, found: side });
            }
        }
        here = Volume {
            slices: here.slices / depth,
            rows: here.rows / height,
            columns: here.columns / width,
            ..here
        };
        volumes.push(here);
    }
    Ok(volumes)
}
