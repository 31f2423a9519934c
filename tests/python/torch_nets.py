"""UNet and UMA-Net with their losses in PyTorch: the same networks as crate `nets`, under the same names.

Names of parameters are those of milesial/Pytorch-UNet; several decoders are `decoders.{d}.`, several heads
`outc.{h}.conv`. Losses: arXiv 2304.00466v2, Eqs. 1, 3, 5, 8; quality: Eqs. 4, 6, 7.
"""

import torch
from torch import nn
from torch.nn import functional

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Block(nn.Module):
    """Two times (convolution 3 without bias, batch normalization, ReLU)."""

    def __init__(self, dims, n_in, n_out):
        super().__init__()
        layers = []
        for n_seen in (n_in, n_out):
            layers += [CONV[dims](n_seen, n_out, 3, padding=1, bias=False), NORM[dims](n_out), nn.ReLU(inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    """Max pooling by 2 and a block."""

    def __init__(self, dims, n_in, n_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(POOL[dims](2), Block(dims, n_in, n_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Transposed convolution by 2, concatenation as (skip, up), and a block."""

    def __init__(self, dims, n_in, n_out):
        super().__init__()
        self.up = UP[dims](n_in, n_out, 2, stride=2)
        self.conv = Block(dims, 2 * n_out, n_out)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class Head(nn.Module):
    """Convolution 1 with bias."""

    def __init__(self, dims, n_in, n_out):
        super().__init__()
        self.conv = CONV[dims](n_in, n_out, 1)

    def forward(self, x):
        return self.conv(x)


class Decoder(nn.Module):
    """The way back to full resolution, and heads there."""

    def __init__(self, dims, base, levels, heads, n_out):
        super().__init__()
        self.n_ups = levels - 1
        for up in range(1, levels):
            width = base << (levels - 1 - up)
            self.add_module(f"up{up}", Up(dims, 2 * width, width))
        all_heads = [Head(dims, base, n_out) for _ in range(heads)]
        self.outc = all_heads[0] if heads == 1 else nn.ModuleList(all_heads)

    def forward(self, skips):
        x = skips[-1]
        for up in range(1, self.n_ups + 1):
            x = getattr(self, f"up{up}")(x, skips[-1 - up])
        return [head(x) for head in (self.outc if isinstance(self.outc, nn.ModuleList) else [self.outc])]


class Unet(nn.Module):
    """One encoder, any number of decoders and heads; gives logits by decoder and head."""

    def __init__(self, dims, n_in, base, levels, decoders=1, heads=1, n_out=1):
        super().__init__()
        self.levels = levels
        self.inc = Block(dims, n_in, base)
        for level in range(1, levels):
            self.add_module(f"down{level}", Down(dims, base << (level - 1), base << level))
        built = [Decoder(dims, base, levels, heads, n_out) for _ in range(decoders)]
        self.single = decoders == 1
        if self.single:
            # Names without a prefix: the decoder's parts are the net's own, and the decoder is not registered.
            for name, part in built[0].named_children():
                self.add_module(name, part)
            self.__dict__["decoder"] = built[0]
        else:
            self.decoders = nn.ModuleList(built)

    def forward(self, x):
        skips = [self.inc(x)]
        for level in range(1, self.levels):
            skips.append(getattr(self, f"down{level}")(skips[-1]))
        return [decoder(skips) for decoder in ([self.decoder] if self.single else self.decoders)]


class UmaNet(nn.Module):
    """Backbone with a primary and an auxiliary head, and the uncertainty estimation with a decoder per source."""

    def __init__(self, dims, n_in, base, levels, sources, structures=1):
        super().__init__()
        self.backbone = Unet(dims, n_in, base, levels, heads=2, n_out=structures)
        self.auem = Unet(dims, n_in + sources * structures, base, levels, decoders=sources, n_out=structures)

    def forward(self, image, labels):
        """Logits of both heads, and of the uncertainty as [case, source, structure, ...]; labels likewise."""
        primary, auxiliary = self.backbone(image)[0]
        seen = torch.cat([image, labels.flatten(1, 2)], 1)
        return primary, auxiliary, torch.stack([heads[0] for heads in self.auem(seen)], 1)


def cross_entropy(logits, label):
    """Mean binary cross-entropy of logits."""
    return functional.binary_cross_entropy_with_logits(logits, label)


def uma_loss(logits, uncertainty, labels, alpha, dice_weight=1.0, epsilon=1e-6):
    """Terms of Eq. 8 for cases of high quality: total, cross-entropy, Dice, consistency, means over the cases."""
    space = tuple(range(3, labels.dim()))
    sigma = torch.sigmoid(uncertainty)
    weight = torch.exp(-sigma)
    x = logits.unsqueeze(1)
    p = torch.sigmoid(x)
    entropy = functional.binary_cross_entropy_with_logits(x.expand_as(labels), labels, reduction="none")
    wce = (weight * entropy + 0.5 * sigma).mean()
    overlap = (weight * (p - labels).square()).sum(space)
    size = p.square().sum(space) + labels.square().sum(space) + epsilon
    dice = (overlap / size + 0.5 * sigma.mean(space)).mean()
    calibration = (labels - sigma).abs()
    consistency = (calibration - calibration.mean(1, keepdim=True)).square().mean()
    return wce + dice_weight * dice + alpha * consistency, wce, dice, consistency


@torch.no_grad()
def quality(uncertainty, labels):
    """u_a and u_b of every case, the worst over its structures."""
    space = tuple(range(2, labels.dim() - 1))
    calibration = (labels - torch.sigmoid(uncertainty)).abs()
    consensus = calibration.mean(1)
    entropy = -(consensus * consensus.clamp_min(1e-7).log()).sum(space)
    total = consensus.sum(space)
    variance = (calibration - consensus.unsqueeze(1)).square().mean(1).sum(space)
    return (entropy / total).amax(1), (4 * variance / total).amax(1)
