"""Modules in the styles of public repositories: each agrees without an extern, or is refused with line and reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl.common.source import Source
from archdsl.runtime.importing import ImportRefused, from_module


class LayerNorm2d(nn.Module):
    """As in the code of ConvNeXt, SAM and NAFNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Conv(nn.Module):
    """As Ultralytics': all share one activation."""

    default_act = nn.SiLU()

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False)
        self.bn, self.act = nn.BatchNorm2d(outputs), self.default_act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class C2f(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(3, 16), Conv(32, 8)
        self.norm = LayerNorm2d(8)
        self.m = nn.ModuleList(nn.Sequential(Conv(8, 8, 3), Conv(8, 8, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.norm(self.cv2(torch.cat(y, 1)))


class Decoder(nn.Module):
    """As of segmentation_models.pytorch: the first convolution of each also takes a skip, if there is one."""

    def __init__(self, inputs: int, skip: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(inputs + skip, width, 3, padding=1), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv2(self.conv1(x if skip is None else torch.cat([x, skip], dim=1)))


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 16), (16, 32), (32, 64))
        self.encoder = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in widths)
        self.blocks = nn.ModuleList([Decoder(64, 32, 32), Decoder(32, 16, 16), Decoder(16, 0, 8)])

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for stage in self.encoder:
            found.append(stage(found[-1]))
        x, *skips = found[:0:-1]
        for i, block in enumerate(self.blocks):
            x = block(x, skips[i] if i < len(skips) else None)
        return x


class SelfAttention(nn.Module):
    """As of SAGAN: a learned number, and queries of fewer channels than values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1)
        self.gamma = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, width, height = x.size()
        query = self.query(x).view(batch, -1, width * height).permute(0, 2, 1)
        scores = torch.bmm(query, self.key(x).view(batch, -1, width * height)).softmax(-1)
        found = torch.bmm(self.value(x).view(batch, -1, width * height), scores.permute(0, 2, 1))
        return self.gamma * found.view(x.size()) + x


class DistanceAttention(nn.Module):
    """As of LeViT: heads interleaved with queries, keys and values, and biases by distances, kept for each device."""

    def __init__(self, side: int = 4, heads: int = 2, talks: bool = False) -> None:
        super().__init__()
        self.heads, self.talks = heads, talks
        self.qkv, self.bn = nn.Linear(3, heads * 10), nn.BatchNorm1d(heads * 10)
        self.proj = nn.Linear(heads * 4, 3)
        self.talk = nn.Conv2d(heads, heads, 1) if talks else nn.Identity()
        self.biases = nn.Parameter(torch.randn(heads, side * side))
        at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        apart = (at[:, :, None] - at[:, None]).abs()
        self.register_buffer("index", apart[0] * side + apart[1], persistent=False)
        self.cache: dict[str, Tensor] = {}

    def bias(self, device: torch.device) -> Tensor:
        if str(device) not in self.cache:
            self.cache[str(device)] = self.biases[:, self.index]
        return self.cache[str(device)]

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows = self.qkv(x.flatten(2).transpose(1, 2))
        rows = self.bn(rows.flatten(0, 1)).reshape_as(rows)
        q, k, v = rows.view(batch, height * width, self.heads, -1).split([3, 3, 4], dim=3)
        q, k, v = q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1), v.permute(0, 2, 1, 3)
        scores = self.talk(q @ k * 0.5 + self.bias(x.device)).softmax(-1)
        found = self.proj((scores @ v).transpose(1, 2).reshape(batch, height * width, -1))
        return found.transpose(1, 2).reshape(batch, 3, height, width)


class ClassAttention(nn.Module):
    """As of BEiT: no bias of keys, and a class token with biases of its own."""

    def __init__(self, side: int = 3) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        self.register_buffer("k_bias", torch.zeros(8), persistent=False)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.embed = nn.Conv2d(3, 8, 2, 2)
        many = (2 * side - 1) ** 2
        self.table = nn.Parameter(torch.randn(many + 3, 2))
        at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + side - 1
        index = F.pad(apart[0] * (2 * side - 1) + apart[1], (1, 0, 1, 0))
        index[0], index[:, 0], index[0, 0] = many, many + 1, many + 2
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1)
        bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        rows = F.linear(x, weight=self.qkv.weight, bias=bias)
        q, k, v = rows.reshape(x.shape[0], x.shape[1], 3, 2, -1).permute(2, 0, 3, 1, 4).unbind(0)
        added = self.table[self.index.view(-1)].view(x.shape[1], x.shape[1], -1).permute(2, 0, 1).unsqueeze(0)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
        return found.transpose(1, 2).reshape(x.shape)


class Branches(nn.Module):
    """As of LCNetV2: a sum of branches, of which a stride has fewer."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        kernels = [5, 3] if stride > 1 else [5, 3, 1]
        self.stride, self.convs = stride, nn.ModuleList(nn.Conv2d(3, 3, k, stride, k // 2) for k in kernels)

    def forward(self, x: Tensor) -> Tensor:
        found = self.convs[0](x)
        for conv in self.convs[1:]:
            found = found + conv(x)
        found = found.relu()
        return x + found if self.stride == 1 else found


@dataclass
class Output:
    logits: Tensor
    features: Tensor


class Several(nn.Module):
    """Means and maxima over channels as of CBAM; a dataclass of results, one of them of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 1, 7, padding=3), nn.Linear(3, 4)
        self.scale, self.norm = nn.Parameter(torch.ones(3)), nn.LayerNorm(3, bias=False)

    def forward(self, x: Tensor) -> Output:
        best, _ = torch.max(x, dim=1, keepdim=True)
        x = x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), best], dim=1)))
        row = self.norm(x.mean((2, 3)) * torch.exp(self.scale)).exp()
        return Output(F.normalize(self.fc(row), dim=1), x**2)


STYLES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ultralytics": (C2f, (3, 16, 16)),
    "segmenter": (Segmenter, (3, 32, 32)),
    "sagan": (SelfAttention, (3, 8, 8)),
    "levit": (DistanceAttention, (3, 4, 4)),
    "talking heads": (lambda: DistanceAttention(talks=True), (3, 4, 4)),
    "beit": (ClassAttention, (3, 6, 6)),
    "lcnet": (lambda: nn.Sequential(Branches(1), Branches(1), Branches(2)), (3, 16, 16)),
    "several": (Several, (3, 16, 16)),
}


@pytest.mark.parametrize("style", STYLES)
def test_it_agrees_without_an_extern(style: str) -> None:
    made, size = STYLES[style]
    torch.manual_seed(0)
    module = made()
    found = from_module(module, size, name="net", extern=False)
    network = archdsl.load(Source("net.arch", found.text))
    network.load_state_dict(module.state_dict(), strict=True)
    image = torch.randn(3, *size)
    for training in (False, True):  # also what training normalises
        wanted, given = module.train(training)(image), network.train(training)(image)
        pairs = (
            [(wanted, given)]
            if isinstance(wanted, Tensor)
            else [(wanted.logits, given[0]), (wanted.features, given[1])]
        )
        for one, two in pairs:
            torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


class Chosen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.relu() if x.mean() > 0 else x


class Shifted(Chosen):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x - self.mean)


class Sampled(Chosen):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Chosen, "it decides by the numbers of a tensor"),
        (Shifted, "the buffer `mean`, which is not in the state_dict"),
        (Sampled, "the language has no operation for the function `randn_like`"),
        (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))), "whose weight `SpectralNorm` computes"),
    ],
)
def test_it_is_refused_with_its_reason(module: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(1)
    with pytest.raises(ImportRefused) as caught:
        from_module(module(), (3, 16, 16))
    assert reason in str(caught.value) and "called at" in str(caught.value)


def test_a_fault_of_the_importer_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    from archdsl.runtime.importing import moves, translating

    def wrong(*given: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setitem(translating.WAYS, "relu", wrong)
    monkeypatch.setitem(moves.MOVERS, "relu", wrong)
    with pytest.raises(KeyError, match="a fault"):
        from_module(Branches(1), (3, 16, 16))


PADDED_WINDOWS = """
model net {
    input x[4, H = 9, W = 9]
    residual {
        layernorm -> windows(4, shift = 2, pad) { qkv: linear(12) -> (q, k, v): split(3), (q, k, v) -> attend(2) }
    }
}
"""


def test_windows_of_a_built_model_that_padding_completes_have_free_sizes() -> None:
    """Each size of the two runs takes another padding, which is cut off behind the windows."""
    source = Source("net.arch", PADDED_WINDOWS.replace(", (q", "\n        (q"))
    text = from_module(archdsl.load(source), (4, 9, 9), extern=False).text
    assert "windows(4, shift = 2, pad)" in text and "H = 9, W = 9" in text and " pad(" not in text


@pytest.mark.parametrize("layer", ["", " -> layernorm"])
def test_multiples_of_a_built_model_are_found(layer: str) -> None:
    """With the channels first, or last."""
    text = f"model net {{\n    input x[4, H = 16, W = 16]\n    layernorm -> pad_to_multiple(3x4){layer}\n}}\n"
    assert "pad_to_multiple(3x4)" in from_module(archdsl.load(Source("net.arch", text)), (4, 16, 16)).text


class Trimmed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (-1, -2, -1, -2))


def test_a_padding_that_only_cuts_off_is_a_crop() -> None:
    assert "    crop(1, after = 2)\n}" in from_module(Trimmed(), (4, 9, 9)).text
