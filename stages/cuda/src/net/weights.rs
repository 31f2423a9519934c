//! What a network has learned, on the device: weights, their gradients, running statistics and what Adam remembers.

use std::rc::Rc;

use kernels::AdamState;
use nets::Parameters;

use super::build::Builder;
use crate::{
    Address, Arena, CudaError, Device, NetLayout, Number,
    buffers::{get, put},
    launches::{AdamAt, Kernels},
};

/// Weights of a network with all that belongs to them; the [nets](super::Net) for inputs of several sizes share them.
#[derive(Clone, Debug)]
pub struct NetWeights {
    pub(super) layout: Rc<NetLayout>,
    pub(super) number: Number,
    pub(super) flat: AdamAt,
    pub(super) running: Address,
}

impl NetWeights {
    /// Takes memory for the network of `parameters` and uploads them; Adam has taken no step.
    ///
    /// # Errors
    /// [`CudaError::Tensor`] for a tensor that is missing, and those of the device.
    pub fn new(
        device: &mut dyn Device,
        arena: &mut Arena,
        number: Number,
        parameters: &Parameters,
    ) -> Result<Self, CudaError> {
        let layout = Rc::new(NetLayout::new(parameters, number)?);
        let mut builder = Builder { device, arena, number, workspace: 0 };
        let flat = builder.flat(layout.n_values)?;
        let running = builder.floats(layout.n_running)?;
        let mut weights = Self { layout, number, flat, running };
        weights.write(device, parameters)?;
        Ok(weights)
    }

    /// Channels of the image, and of the input with its zeros.
    pub(crate) fn in_channels(&self) -> [usize; 2] {
        self.layout.in_channels
    }

    /// Decoders, and heads of each.
    pub(crate) fn n_heads(&self) -> Vec<usize> {
        self.layout.decoders.iter().map(|decoder| decoder.heads.len()).collect()
    }

    /// Channels of the logits.
    pub(crate) fn n_outputs(&self) -> usize {
        self.layout.decoders[0].heads[0].n_outputs
    }

    /// What a step of Adam changes.
    pub(crate) fn flat(&self) -> AdamAt {
        self.flat
    }

    /// Replaces weights and running statistics by those of `parameters`; Adam's state stays.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters of another network.
    pub fn write(
        &mut self,
        device: &mut dyn Device,
        parameters: &Parameters,
    ) -> Result<(), CudaError> {
        self.layout.check(parameters)?;
        put(device, self.flat.values, &self.layout.to_device(&parameters.values)?)?;
        put(device, self.running, &self.layout.running(parameters))?;
        if self.number == Number::Bf16 {
            let mut kernels = Kernels { device, number: self.number, partial: Address::NULL };
            kernels.narrow(self.flat.values, self.flat.copy, self.flat.count)?;
        }
        Ok(())
    }

    /// Copies weights and running statistics into `parameters`; waits for the device.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters of another network.
    pub fn read(
        &self,
        device: &mut dyn Device,
        parameters: &mut Parameters,
    ) -> Result<(), CudaError> {
        self.layout.check(parameters)?;
        parameters.values =
            self.layout.to_host(&get(device, self.flat.values, self.flat.count)?)?;
        let running: Vec<f32> = get(device, self.running, self.layout.n_running)?;
        self.layout.put_running(&running, parameters);
        Ok(())
    }

    /// Copies the gradients of the last step into `parameters`; waits for the device.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters of another network.
    pub fn read_gradients(
        &self,
        device: &mut dyn Device,
        parameters: &mut Parameters,
    ) -> Result<(), CudaError> {
        self.layout.check(parameters)?;
        let gradients = get(device, self.flat.gradients, self.flat.count)?;
        parameters.gradients = self.layout.to_host(&gradients)?;
        Ok(())
    }

    /// Adam's moments and steps in the host's order; waits for the device.
    ///
    /// # Errors
    /// Those of the device.
    pub fn read_adam(&self, device: &mut dyn Device) -> Result<AdamState, CudaError> {
        let count = self.flat.count;
        let first = self.layout.to_host(&get(device, self.flat.first, count)?)?;
        let second = self.layout.to_host(&get(device, self.flat.second, count)?)?;
        let step = get::<f64>(device, self.flat.state, 1)?[0];
        Ok(AdamState { first, second, step: step as u64 })
    }

    /// Goes on from `state`.
    ///
    /// # Errors
    /// [`CudaError::Length`] for the state of another network.
    pub fn write_adam(
        &mut self,
        device: &mut dyn Device,
        state: &AdamState,
    ) -> Result<(), CudaError> {
        put(device, self.flat.first, &self.layout.to_device(&state.first)?)?;
        put(device, self.flat.second, &self.layout.to_device(&state.second)?)?;
        put(device, self.flat.state, &[state.step as f64, 0.0])
    }
}
