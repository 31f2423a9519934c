"""Measures training steps of one network in PyTorch; prints a JSON object.

Usage: torch_step.py NAME=VALUE...    the settings of the example `step_rate` of crate `nets`

PyTorch's best setting on a CPU: channels-last memory, fused Adam, bf16 by autocast. The allocator is tuned by the
caller's environment. The first step is not counted. With device=cuda the network is compiled (torch.compile) too, every
step begins with its batch in the memory of the host, and the first five are not counted.
"""

import json
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import torch_nets  # noqa: E402


def settings():
    """Settings of the command line over the defaults."""
    given = dict(net="unet", size="1,256,256", batch="4", channels="1", base="32", levels="4", sources="1")
    given |= dict(dtype="f32", steps="5", threads="2", device="cpu")
    given |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    return {name: int(value) if value.isdigit() else value for name, value in given.items()}


def peak_mib(device):
    """Greatest resident memory of this process, or of its part of the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 2**20
    for line in open("/proc/self/status", encoding="ascii"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def main():
    at = settings()
    torch.set_num_threads(at["threads"])
    torch.manual_seed(0)
    size = [int(side) for side in at["size"].split(",")]
    dims = 3 if size[0] > 1 else 2
    space, layout = size[3 - dims :], {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    device, warm = at["device"], 5 if at["device"] == "cuda" else 1
    image = (torch.rand(at["batch"], at["channels"], *space) - 0.5).to(memory_format=layout)
    labels = (torch.rand(at["batch"], at["sources"], 1, *space) > 0.5).float()
    if at["net"] == "unet":
        net = torch_nets.Unet(dims, at["channels"], at["base"], at["levels"])
    else:
        net = torch_nets.UmaNet(dims, at["channels"], at["base"], at["levels"], at["sources"])
    net = net.to(device, memory_format=layout).train()
    if device == "cuda":
        image, labels = image.pin_memory(), labels.pin_memory()
        net = torch.compile(net)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def loss_of(alpha, image, labels):
        with torch.autocast(device, torch.bfloat16, enabled=at["dtype"] == "bf16"):
            outputs = net(image) if at["net"] == "unet" else net(image, labels)
        if at["net"] == "unet":
            return torch_nets.cross_entropy(outputs[0][0].float(), labels[:, 0])
        primary, _, uncertainty = (output.float() for output in outputs)
        torch_nets.quality(uncertainty, labels)
        return torch_nets.uma_loss(primary, uncertainty, labels, alpha)[0]

    times = []
    for step in range(at["steps"] + warm):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        batch = (tensor.to(device, non_blocking=True) for tensor in (image, labels))
        loss = loss_of(step / (at["steps"] + warm), *batch)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps(dict(times_ms=times[warm:], peak_mib=peak_mib(device), loss=loss.item())))


if __name__ == "__main__":
    main()
