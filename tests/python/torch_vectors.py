"""Writes PyTorch's values of every operation and of whole steps as small files of vectors for the tests in Rust.

Usage: python3 tests/python/torch_vectors.py    (any Python 3; installs PyTorch into target/python/torch)

Writes stages/kernels/tests/torch.safetensors (operations) and stages/nets/tests/torch.safetensors (whole steps).
PyTorch computes in f64; results are rounded to f32. What goes in is representable in bf16 and stored so, but for
`conv_f32`, whose inputs have all digits of f32. Activations are stored as `[batch, slice, row, column, channel]`,
weights as `[slice, row, column, in, out]`; whole steps keep PyTorch's own order of weights.
"""

import json
import math
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import torch_setup  # noqa: E402

try:
    import torch
    from torch.nn import functional
    import torch_nets
except ImportError:
    sys.exit(subprocess.run([torch_setup.interpreter(), __file__, *sys.argv[1:]]).returncode)

STAGES = HERE.parents[1] / "stages"
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}


class Vectors:
    """Named tensors on their way to a safetensors file."""

    def __init__(self, note):
        self.header = {"__metadata__": {"made by": "tests/python/torch_vectors.py", "torch": torch.__version__} | note}
        self.data = bytearray()

    def put(self, name, tensor):
        """Appends a tensor as it is."""
        raw = tensor.detach().reshape(-1).clone().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        begin = len(self.data)
        self.data += raw
        entry = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, len(self.data)]}
        assert name not in self.header, name
        self.header[name] = entry

    def inputs(self, case, **tensors):
        """Appends what goes in: as bf16 if that represents it, else as f32, which must."""
        for name, tensor in tensors.items():
            short = torch.equal(tensor.bfloat16().double(), tensor)
            assert torch.equal(tensor.float().double(), tensor), f"{case}/{name}"
            self.put(f"{case}/{name}", tensor.bfloat16() if short else tensor.float())

    def results(self, case, **tensors):
        """Appends what comes out, rounded to f32."""
        for name, tensor in tensors.items():
            self.put(f"{case}/{name}", tensor.detach().float())

    def numbers(self, case, **lists):
        """Appends whole numbers."""
        for name, numbers in lists.items():
            self.put(f"{case}/{name}", torch.tensor(numbers, dtype=torch.int64))

    def write(self, path):
        """Writes the file; equal vectors give equal bytes."""
        header = json.dumps(self.header, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        path.write_bytes(len(header).to_bytes(8, "little") + header + self.data)
        print(f"{path.relative_to(STAGES.parent)}: {len(self.header) - 1} tensors, {path.stat().st_size} bytes")


def draw(*shape, scale=1.0, dtype=torch.bfloat16):
    """Normal numbers that `dtype` can represent, in f64."""
    return (torch.randn(*shape, dtype=torch.float64) * scale).to(dtype).double()


def wanting(*tensors):
    """The tensors with gradients to come."""
    return [tensor.clone().requires_grad_() for tensor in tensors]


def last(tensor):
    """Channels last: `[batch, channel, slice, row, column]` to `[batch, slice, row, column, channel]`."""
    return tensor.detach().movedim(1, -1)


def kernel_first(weights, transposed=False):
    """`[out, in, kernel]` (or `[in, out, kernel]`) to `[kernel, in, out]`."""
    return weights.detach().permute(2, 3, 4, 0, 1) if transposed else weights.detach().permute(2, 3, 4, 1, 0)


# name: in channels of both inputs, out channels, kernel, stride, [batch, slice, row, column], bias
CONVOLUTIONS = {
    "conv/2d": ([5, 0], 7, [1, 3, 3], [1, 1, 1], [2, 1, 5, 9], True),
    "conv/2d_wide": ([16, 0], 33, [1, 3, 3], [1, 1, 1], [1, 1, 4, 17], False),
    "conv/2d_two_inputs": ([3, 4], 6, [1, 3, 3], [1, 1, 1], [2, 1, 4, 6], False),
    "conv/2d_one_row": ([2, 0], 3, [1, 3, 3], [1, 1, 1], [1, 1, 1, 7], False),
    "conv/2d_one_by_one": ([9, 0], 1, [1, 1, 1], [1, 1, 1], [2, 1, 3, 5], True),
    "conv/2d_anisotropic": ([4, 0], 5, [1, 1, 5], [1, 1, 1], [1, 1, 3, 8], False),
    "conv/3d": ([3, 0], 5, [3, 3, 3], [1, 1, 1], [2, 3, 4, 5], True),
    "conv/3d_two_inputs": ([2, 3], 4, [3, 3, 3], [1, 1, 1], [1, 3, 3, 6], False),
    "conv/3d_flat": ([3, 0], 4, [1, 3, 3], [1, 1, 1], [1, 3, 4, 5], False),
    "conv/3d_deep": ([3, 0], 4, [3, 1, 1], [1, 1, 1], [1, 4, 2, 3], False),
    "conv/2d_stride": ([4, 0], 6, [1, 3, 3], [1, 2, 2], [2, 1, 5, 8], True),
    "conv/3d_stride": ([3, 0], 4, [3, 3, 3], [2, 2, 2], [1, 4, 5, 6], True),
    "conv/3d_flat_stride": ([2, 0], 3, [3, 3, 3], [1, 2, 2], [1, 3, 4, 7], False),
    "conv_f32/2d": ([5, 4], 7, [1, 3, 3], [1, 1, 1], [2, 1, 5, 9], True),
    "conv_f32/3d": ([6, 0], 4, [3, 3, 3], [1, 1, 1], [1, 3, 4, 6], True),
}


def convolutions(vectors):
    for case, (channels, n_out, kernel, stride, axes, with_bias) in CONVOLUTIONS.items():
        batch, *space = axes
        dtype = torch.float32 if case.startswith("conv_f32/") else torch.bfloat16
        inputs = [draw(batch, n, *space, dtype=dtype) for n in channels]
        weights, bias = draw(n_out, sum(channels), *kernel, scale=0.5, dtype=dtype), draw(n_out, dtype=dtype)
        vectors.numbers(case, stride=stride)
        vectors.inputs(case, first=last(inputs[0]), second=last(inputs[1]), weight=kernel_first(weights))
        first, second, weights, bias = wanting(*inputs, weights, bias)
        padding = [side // 2 for side in kernel]
        seen = torch.cat([first, second], 1)
        output = functional.conv3d(seen, weights, bias if with_bias else None, stride, padding)
        gradient = draw(*output.shape, dtype=dtype)
        output.backward(gradient)
        vectors.inputs(case, gradient=last(gradient))
        vectors.results(case, output=last(output), first_gradient=last(first.grad), second_gradient=last(second.grad))
        vectors.results(case, weight_gradient=kernel_first(weights.grad))
        if with_bias:
            vectors.inputs(case, bias=bias.detach())
            vectors.results(case, bias_gradient=bias.grad)


# name: in channels, out channels, stride, [batch, slice, row, column]
UP_CONVOLUTIONS = {
    "up_conv/2d": (6, 3, [1, 2, 2], [2, 1, 3, 5]),
    "up_conv/3d": (4, 5, [2, 2, 2], [1, 2, 3, 4]),
    "up_conv/3d_flat": (3, 2, [1, 2, 2], [2, 3, 2, 3]),
}


def up_convolutions(vectors):
    for case, (n_in, n_out, stride, axes) in UP_CONVOLUTIONS.items():
        batch, *space = axes
        tensors = draw(batch, n_in, *space), draw(n_in, n_out, *stride, scale=0.5), draw(n_out)
        vectors.inputs(case, input=last(tensors[0]), weight=kernel_first(tensors[1], True), bias=tensors[2])
        x, weights, bias = wanting(*tensors)
        output = functional.conv_transpose3d(x, weights, bias, stride)
        gradient = draw(*output.shape)
        output.backward(gradient)
        vectors.inputs(case, gradient=last(gradient))
        vectors.results(case, output=last(output), input_gradient=last(x.grad))
        vectors.results(case, weight_gradient=kernel_first(weights.grad, True), bias_gradient=bias.grad)


def normalizations(vectors):
    """Batch (training and evaluation), instance and group normalization, each with ReLU and LeakyReLU 0.01."""
    n_channels, axes = 6, [3, 1, 4, 5]
    for slope, activation in ((0.0, "relu"), (0.01, "leaky_relu")):
        for kind in ("batch", "batch_evaluation", "instance", "group_2", "group_3"):
            case = f"norm/{kind}_{activation}"
            values, scale, shift = draw(axes[0], n_channels, *axes[1:]), draw(n_channels), draw(n_channels, scale=0.5)
            mean, variance = draw(n_channels), draw(n_channels).square().bfloat16().double() + 0.5
            variance = variance.bfloat16().double()
            vectors.inputs(case, input=last(values), scale=scale, shift=shift)
            x, scale, shift = wanting(values, scale, shift)
            if kind.startswith("batch"):
                vectors.inputs(case, mean=mean, variance=variance)
                running = mean.clone(), variance.clone()
                output = functional.batch_norm(x, *running, scale, shift, training=kind == "batch")
                if kind == "batch":
                    vectors.results(case, running_mean=running[0], running_variance=running[1])
            else:
                groups = n_channels if kind == "instance" else int(kind[-1])
                output = functional.group_norm(x, groups, scale, shift)
            output = functional.leaky_relu(output, slope)
            gradient = draw(*output.shape)
            output.backward(gradient)
            vectors.inputs(case, gradient=last(gradient))
            vectors.results(case, output=last(output), input_gradient=last(x.grad))
            vectors.results(case, scale_gradient=scale.grad, shift_gradient=shift.grad)


def pools(vectors):
    """Max pooling of few different numbers, so that windows have ties."""
    for case, window, axes in (
        ("pool/2d", [1, 2, 2], [2, 1, 5, 8]),
        ("pool/3d", [2, 2, 2], [1, 4, 4, 7]),
        ("pool/3d_flat", [1, 2, 2], [1, 3, 4, 4]),
    ):
        x = torch.randint(-1, 2, (axes[0], 3, *axes[1:])).double()
        vectors.numbers(case, window=window)
        vectors.inputs(case, input=last(x))
        (x,) = wanting(x)
        output = functional.max_pool3d(x, window)
        gradient = draw(*output.shape)
        output.backward(gradient)
        vectors.inputs(case, gradient=last(gradient))
        vectors.results(case, output=last(output), input_gradient=last(x.grad))


def resizes(vectors):
    """Nearest and linear resizing, by whole factors and to any size, with and without aligned corners."""
    for case, size, axes in (
        ("resize/nearest_2d", [1, 6, 8], [2, 1, 3, 4]),
        ("resize/nearest_3d", [4, 6, 6], [1, 2, 3, 3]),
        ("resize/nearest_any", [3, 5, 7], [1, 2, 3, 4]),
        ("resize/linear_2d", [1, 6, 8], [2, 1, 3, 4]),
        ("resize/linear_by_4", [1, 8, 12], [1, 1, 2, 3]),
        ("resize/linear_3d", [4, 6, 6], [1, 2, 3, 3]),
        ("resize/linear_flat", [3, 4, 6], [1, 3, 2, 3]),
        ("resize/linear_any", [3, 5, 3], [1, 2, 3, 4]),
        ("resize/aligned_2d", [1, 6, 8], [1, 1, 3, 4]),
        ("resize/aligned_3d", [4, 5, 3], [1, 2, 3, 3]),
    ):
        x = draw(axes[0], 3, *axes[1:])
        vectors.numbers(case, size=size)
        vectors.inputs(case, input=last(x))
        (x,) = wanting(x)
        if "nearest" in case:
            output = functional.interpolate(x, size=size, mode="nearest")
        else:
            output = functional.interpolate(x, size=size, mode="trilinear", align_corners="aligned" in case)
        gradient = draw(*output.shape)
        output.backward(gradient)
        vectors.inputs(case, gradient=last(gradient))
        vectors.results(case, output=last(output), input_gradient=last(x.grad))


def losses(vectors):
    """Cross-entropy of logits up to +-100, and the losses of UMA-Net."""
    logits, labels = draw(40, scale=4.0), (torch.rand(40) > 0.5).double()
    logits[:4], labels[:4] = torch.tensor([100.0, -100.0, 100.0, 0.0]), torch.tensor([0.0, 1.0, 1.0, 0.5])
    vectors.inputs("loss/cross_entropy", logits=logits, labels=labels)
    (x,) = wanting(logits)
    loss = functional.binary_cross_entropy_with_logits(x, labels)
    loss.backward()
    vectors.results("loss/cross_entropy", loss=loss, gradient=x.grad)

    for sources, alpha in ((3, 0.75), (1, 0.0)):
        case = f"loss/uma_{sources}"
        tensors = draw(1, 1, 4, 5, scale=2.0), draw(1, sources, 1, 4, 5, scale=2.0)
        labels = (torch.rand(1, sources, 1, 4, 5) > 0.5).double()
        vectors.inputs(case, logits=tensors[0].flatten(), uncertainty=tensors[1].flatten(2)[0, :, :])
        vectors.inputs(case, labels=labels.flatten(2)[0], alpha=torch.tensor([alpha], dtype=torch.float64))
        x, u = wanting(*tensors)
        terms = torch_nets.uma_loss(x, u, labels, alpha)
        terms[0].backward()
        vectors.results(case, terms=torch.stack(terms), gradient=x.grad.flatten())
        vectors.results(case, uncertainty_gradient=u.grad.flatten(2)[0])


def optimizers(vectors):
    """Three steps of Adam, AdamW and SGD; with and without a limit on the gradient's norm."""
    classes = {
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.125),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "sgd_decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.125),
    }
    values, gradients = draw(37), draw(3, 37)
    vectors.inputs("optimizer", values=values, gradients=gradients)
    for name, build in classes.items():
        for limit in (None, 3.0):
            (parameter,) = wanting(values)
            optimizer = build([parameter])
            seen = []
            for gradient in gradients:
                parameter.grad = gradient.clone()
                if limit is not None:
                    torch.nn.utils.clip_grad_norm_([parameter], limit)
                optimizer.step()
                seen.append(parameter.detach().clone())
            case = f"optimizer/{name}" + ("" if limit is None else "_limit_3")
            vectors.results(case, values=torch.stack(seen))


# name: net, axes, channels of the image, base, levels, sources, structures, [batch, slice, row, column]
STEPS = {
    "unet_2d": ("unet", 2, 1, 4, 3, 1, 1, [2, 1, 16, 16]),
    "unet_3d": ("unet", 3, 2, 2, 2, 1, 1, [1, 4, 6, 8]),
    "uma_2d": ("uma", 2, 1, 2, 3, 3, 1, [2, 1, 16, 16]),
    "uma_3d": ("uma", 3, 1, 2, 2, 2, 1, [2, 4, 6, 8]),
    "unet_2d_wide": ("unet", 2, 1, 32, 3, 1, 1, [2, 1, 20, 36]),
    "unet_3d_wide": ("unet", 3, 2, 32, 2, 1, 1, [1, 4, 6, 10]),
    "uma_2d_wide": ("uma", 2, 1, 32, 2, 2, 1, [1, 1, 12, 20]),
}
# Wide steps store two numbers a weight, from which `drawn` makes it, and see results through so many directions.
DIRECTIONS = 4
# Weight of the consistency loss.
ALPHA = 0.5


def objects(batch, sources, space):
    """An image with a bright ball on noise, and labels that disagree about its size."""
    places = torch.meshgrid(*(torch.linspace(-1, 1, side, dtype=torch.float64) for side in space), indexing="ij")
    distance = torch.stack([(axis - 0.2).square() for axis in places]).sum(0).sqrt()
    image = (distance < 0.6).double() + draw(batch, 1, *space, scale=0.5)
    radii = [0.5 + 0.1 * source for source in range(sources)]
    labels = torch.stack([(distance < radius).double() for radius in radii])
    return image, labels[None, :, None].repeat(batch, 1, 1, *(1 for _ in space))


def drawn(name, n):
    """`n` numbers of 16 bits in [-1, 1) that follow from a name, for tests that draw the same ones."""
    salt = 2166136261
    for byte in name.encode():
        salt = (salt ^ byte) * 16777619 % 2**32
    x = (torch.arange(n, dtype=torch.int64) + salt) % 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return ((x ^ (x >> 16)) >> 16).double() / 32768 - 1


def store_weight(vectors, case, name, parameter):
    """Gives a parameter its weights and stores them: all, or what `drawn` makes them from."""
    is_scale = ".double_conv." in name and name.endswith("weight") and parameter.dim() == 1
    start = 1.0 if is_scale else 0.0
    spread = 0.25 if parameter.dim() == 1 else 1 / (parameter[0].numel() ** 0.5)
    with torch.no_grad():
        if case.endswith("_wide"):
            spread = 2.0 ** round(math.log2(spread))
            parameter.copy_((start + spread * drawn(name, parameter.numel())).reshape(parameter.shape))
            vectors.inputs(case, **{f"rule/{name}": torch.tensor([start, spread], dtype=torch.float64)})
        else:
            parameter.copy_((start + draw(*parameter.shape, scale=spread)).bfloat16().double())
            vectors.inputs(case, **{f"weight/{name}": parameter.detach()})


def store_result(vectors, case, kind, name, tensor):
    """Stores a tensor: all of it, or its norm and its products with directions."""
    if case.endswith("_wide"):
        flat = tensor.detach().flatten()
        products = [flat @ drawn(f"{name}/{n}", len(flat)) for n in range(DIRECTIONS)]
        tensor = torch.stack([flat.norm(), *products])
    vectors.results(case, **{f"{kind}/{name}": tensor})


def steps(vectors):
    """Loss terms and the gradient of every parameter of whole steps."""
    for case, (kind, dims, channels, base, levels, sources, structures, axes) in STEPS.items():
        batch, *space = axes
        space = space[3 - dims :]
        image, labels = objects(batch, sources, space)
        image = (image + draw(batch, channels, *space, scale=0.25)).bfloat16().double()
        if kind == "unet":
            net = torch_nets.Unet(dims, channels, base, levels)
        else:
            net = torch_nets.UmaNet(dims, channels, base, levels, sources, structures)
        net = net.double().train()
        prefix = "backbone." if kind == "unet" else ""
        vectors.numbers(case, settings=[dims, channels, base, levels, sources, structures, *axes])
        vectors.inputs(case, image=image.movedim(1, -1))
        vectors.inputs(case, labels=labels.transpose(0, 1).movedim(2, -1))
        for name, parameter in net.named_parameters():
            store_weight(vectors, case, prefix + name, parameter)
        if kind == "unet":
            loss = torch_nets.cross_entropy(net(image)[0][0], labels[:, 0])
            terms = torch.stack([loss])
        else:
            primary, _, uncertainty = net(image, labels)
            terms = torch.stack(torch_nets.uma_loss(primary, uncertainty, labels, ALPHA))
            scores = torch.stack([score.mean() for score in torch_nets.quality(uncertainty, labels)])
            vectors.results(case, quality=scores)
        terms[0].backward()
        vectors.results(case, terms=terms)
        for name, parameter in net.named_parameters():
            # The auxiliary head has no part in the loss.
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            store_result(vectors, case, "gradient", prefix + name, gradient)
        for name, buffer in net.named_buffers():
            if "num_batches" not in name:
                store_result(vectors, case, "running", prefix + name, buffer)


def main():
    torch.manual_seed(20260101)
    torch.set_num_threads(1)
    operations = Vectors({"note": "activations [batch, slice, row, column, channel], weights [kernel, in, out]"})
    for part in (convolutions, up_convolutions, normalizations, pools, resizes, losses, optimizers):
        part(operations)
    (STAGES / "kernels" / "tests").mkdir(exist_ok=True)
    operations.write(STAGES / "kernels" / "tests" / "torch.safetensors")
    whole = Vectors({"alpha": str(ALPHA), "settings": "axes, channels, base, levels, sources, structures, batch axes"})
    steps(whole)
    (STAGES / "nets" / "tests").mkdir(exist_ok=True)
    whole.write(STAGES / "nets" / "tests" / "torch.safetensors")


if __name__ == "__main__":
    main()
