"""Small modules of the shapes that published networks have, written as people write them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """As torchvision's Conv2dNormActivation: some have no activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        padding = (kernel - 1) // 2
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *[nn.ReLU6(inplace=True)] * act)


class BasicBlock(nn.Module):
    """A residual block with an optional projection."""

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(width, width), BasicBlock(width, width), BasicBlock(width, width))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2), BasicBlock(4 * width, 4 * width))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for item in (8, 8, "M", 16, 16, "M", 16, 16, "M"):
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(inputs, item, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = item
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(nn.Linear(144, 20), nn.ReLU(True), nn.Dropout(0.25), nn.Linear(20, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.view(x.size(0), -1))


class DenseLayer(nn.Module):
    """Concatenates what it is given, a list, itself."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, before: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(before, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, count: int, inputs: int, growth: int) -> None:
        super().__init__()
        for i in range(count):
            self.add_module(f"layer{i + 1}", DenseLayer(inputs + i * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = DenseBlock(3, 8, 4)
        self.transition = nn.Sequential(nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.block2 = DenseBlock(5, 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.transition(self.block1(self.stem(x)))).mean([2, 3])


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return self.fc2(scale).sigmoid() * x


class InvertedResidual(nn.Module):
    """A part before, one within, and a skip around it, each only in some."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, squeezes: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNormAct(inputs, hidden, 1)] if hidden != inputs else []
        layers.append(ConvNormAct(hidden, hidden, 3, stride, groups=hidden))
        if squeezes:
            layers.append(SqueezeExcitation(hidden, hidden // 4))
        self.block = nn.Sequential(*layers, ConvNormAct(hidden, outputs, 1, act=False))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.skips else self.block(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormAct(3, 8, 3, 2),
            InvertedResidual(8, 8, 8, 1, False),
            InvertedResidual(8, 32, 12, 2, False),
            InvertedResidual(12, 40, 12, 1, True),
            InvertedResidual(12, 40, 12, 1, True),
            InvertedResidual(12, 48, 20, 2, True),
            ConvNormAct(20, 64, 1),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class Branches(nn.Module):
    def __init__(self, inputs: int, one: int, inner: int, three: int) -> None:
        super().__init__()
        self.branch1 = ConvNormAct(inputs, one, 1)
        self.branch2 = nn.Sequential(ConvNormAct(inputs, inner, 1), ConvNormAct(inner, three, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNormAct(inputs, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.pool(x)], 1)


class Outputs(NamedTuple):
    logits: Tensor
    side: Tensor | None


class Inception(nn.Module):
    """With an output that it has only in training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3, 2)
        self.a = Branches(8, 4, 6, 8)
        self.b = Branches(16, 8, 4, 12)
        self.side = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Outputs | Tensor:
        x = self.a(self.stem(x))
        side = self.side(x) if self.training else None
        x = self.fc(self.b(x).mean((-2, -1)))
        return Outputs(x, side) if self.training else x


def shuffled(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1, groups=half)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return shuffled(torch.cat((kept, self.branch2(changed)), dim=1), 2)


class ShuffleNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), ShuffleUnit(8), ShuffleUnit(8), ShuffleUnit(8))


class DoubleConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)),
            *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Up(nn.Module):
    """Takes two tensors, and makes their sizes equal."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc = DoubleConv(1, 4)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 16))
        self.up1 = Up(16, 8)
        self.up2 = Up(8, 4)
        self.outc = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        return self.outc(self.up2(self.up1(x3, x2), x1))


class Pyramid(nn.Module):
    """Resizes to the size of another tensor, and has several outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.c2 = nn.Conv2d(8, 16, 3, 2, 1)
        self.lateral1 = nn.Conv2d(8, 8, 1)
        self.lateral2 = nn.Conv2d(16, 8, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        c1 = F.relu(self.c1(image))
        c2 = F.relu(self.c2(c1))
        p2 = self.lateral2(c2)
        p1 = self.lateral1(c1) + F.interpolate(p2, size=c1.shape[-2:], mode="nearest")
        return {"fine": p1, "coarse": p2}


class LeNet(nn.Module):
    """Only for one size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5)
        self.fc1, self.fc2 = nn.Linear(6 * 12 * 12, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv(x)), 2)
        return F.softmax(self.fc2(F.leaky_relu(self.fc1(x.flatten(1)), 0.2)), dim=1)


class Chain(nn.Module):
    """Calls the layers of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + F.gelu(layer(x))
        return x


class ConvNeXtBlock(nn.Module):
    """Moves the channels to the end and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.Sequential(ConvNeXtBlock(8), ConvNeXtBlock(8), nn.Conv2d(8, 16, 2, 2), ConvNeXtBlock(16))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.stages(self.stem(x)).mean([-2, -1]))


class MixerBlock(nn.Module):
    """Mixes along the tokens, then along the channels."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = nn.Sequential(nn.Linear(tokens, 12), nn.GELU(), nn.Linear(12, tokens))
        self.channels = nn.Sequential(nn.Linear(channels, 20), nn.GELU(), nn.Linear(20, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.blocks = nn.Sequential(MixerBlock(16, 8), MixerBlock(16, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class EncoderBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + y
        return x + self.mlp(self.ln_2(x))


class ViT(nn.Module):
    """A class token before the patches, and a position for each."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 17, 8))
        self.blocks = nn.ModuleList(EncoderBlock(8, 2) for _ in range(3))
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Siamese(nn.Module):
    """One tower for two images, and one layer for all their differences."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.heads = nn.ModuleList([nn.Conv2d(8, 8, 1)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.tower(x) - self.tower(F.max_pool2d(x, 3, 1, 1))
        return self.heads[0](F.relu(self.heads[0](y)))


SMALL = (3, 32, 32)
NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "resnet": (ResNet, (3, 64, 64)),
    "vgg": (VGG, SMALL),
    "densenet": (DenseNet, SMALL),
    "mobilenet": (MobileNet, SMALL),
    "inception": (Inception, SMALL),
    "shufflenet": (ShuffleNet, SMALL),
    "unet": (UNet, (1, 32, 32)),
    "pyramid": (Pyramid, SMALL),
    "lenet": (LeNet, (1, 28, 28)),
    "chain": (Chain, SMALL),
    "convnext": (ConvNeXt, SMALL),
    "mixer": (Mixer, SMALL),
    "vit": (ViT, SMALL),
    "siamese": (Siamese, SMALL),
}
