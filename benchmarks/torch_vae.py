"""The training step of SpatialVAE in PyTorch; benchmarks/train.py runs this script.

    python torch_vae.py MODEL.npz eager|compiled|losses STEPS DESCRIPTOR

Everything is mirrored vertically and horizontally. TensorFlow's SAME padding, with the odd pixel at
the end, then equals PyTorch's, with the odd pixel at the start, so no explicit padding is needed.
Kernels and images are mirrored in advance; the latents, which are small, in each step.
"""

import contextlib
import json
import sys
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from turns import BATCH, Ended, Turns


class Block(nn.Module):
    """Convolution (or transposed convolution), batch norm, activation."""

    def __init__(self, convolution: nn.Module, activation: nn.Module, crop: int = 0):
        super().__init__()
        self.convolution, self.activation, self.crop = convolution, activation, crop
        self.batch_norm = nn.BatchNorm2d(convolution.out_channels, eps=1e-3, momentum=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.crop:
            x = x[:, :, self.crop :, self.crop :]
        return self.activation(self.batch_norm(self.convolution(x)))


class SpatialVAE(nn.Module):
    """`plan`: the model's sizes, and its blocks as [inputs, filters, kernel, stride, padding]."""

    def __init__(self, plan: dict):
        super().__init__()
        self.plan = plan
        self.encoder = nn.Sequential()
        side = plan["side"]
        for inputs, filters, kernel, stride, padding in plan["encoder"]:
            same = padding == "same"
            pad = kernel // 2 if same else 0
            # The pixels that VALID ignores at the end are at the start here.
            crop = 0 if same else (side - kernel) % stride
            convolution = nn.Conv2d(inputs, filters, kernel, stride, pad, bias=False)
            self.encoder.append(Block(convolution, nn.ELU(), crop))
            side = side // stride if same else (side - kernel) // stride + 1
        self.outputs = nn.Linear(side * side * filters, plan["outputs"])
        self.decoder = nn.Sequential()
        for inputs, filters, kernel, stride, padding in plan["decoder"]:
            pad = kernel // 2 if padding == "same" else 0
            convolution = nn.ConvTranspose2d(
                inputs, filters, kernel, stride, pad, stride - 1, bias=False
            )
            self.decoder.append(Block(convolution, nn.ELU()))
        self.decoder[-1].activation = nn.Tanh()

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Load Keras' layouts: (height, width, in, out), transposed (height, width, out, in)."""
        with torch.no_grad():
            for part in ("encoder", "decoder"):
                for index, block in enumerate(getattr(self, part)):
                    kernel = weights[f"{part}.{index}.kernel"][::-1, ::-1].transpose(3, 2, 0, 1)
                    block.convolution.weight.copy_(torch.tensor(kernel.copy()))
                    block.batch_norm.weight.copy_(torch.tensor(weights[f"{part}.{index}.gamma"]))
                    block.batch_norm.bias.copy_(torch.tensor(weights[f"{part}.{index}.beta"]))
            kernel = weights["outputs.kernel"]
            filters = self.plan["encoder"][-1][1]
            side = round((len(kernel) / filters) ** 0.5)
            kernel = kernel.reshape(side, side, filters, -1)[::-1, ::-1].reshape(kernel.shape)
            self.outputs.weight.copy_(torch.tensor(kernel.T.copy()))
            self.outputs.bias.copy_(torch.tensor(weights["outputs.bias"]))

    def posterior(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, outputs) -> loc, log_var, both (batch, d, d, N)."""
        d, n = self.plan["latent_size"], self.plan["latent_maps"]
        raw = raw.view(len(raw), -1, n)
        name = self.plan["posterior"]
        if name in ("vanilla", "naive"):
            return tuple(part.reshape(-1, d, d, n) for part in raw.chunk(2, 1))
        if name == "mvn":
            loc, rows, columns = raw.split([d * d, d, d], 1)
            loc = loc.reshape(-1, d, d, n)
        else:
            mu, nu, rows, columns = raw.chunk(4, 1)
            loc = mu[:, :, None] * nu[:, None]
        return loc, rows[:, :, None] + columns[:, None]

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return SSE + w KL of uint8 images (batch, height, width, channel)."""
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1  # in the channels_last format
        features = self.encoder(x).permute(0, 2, 3, 1).flatten(1)
        features = functional.dropout(features, self.plan["dropout"])
        loc, log_var = self.posterior(self.outputs(features))
        z = loc + torch.exp(0.5 * log_var) * noise
        decoded = self.decoder(z.flip(1, 2).permute(0, 3, 1, 2))
        sse = (x - decoded).square().sum((1, 2, 3)).mean()
        kl = 0.5 * (loc.square() + log_var.exp() - log_var - 1).sum((1, 2, 3)).mean()
        return sse + self.plan["kl_weight"] * kl


def main() -> None:
    path, mode, steps, descriptor = sys.argv[1:]
    connection = Connection(int(descriptor))
    data = dict(np.load(path))
    plan = json.loads(str(data.pop("plan")))
    if mode == "losses":
        plan["dropout"] = 0.0
    model = SpatialVAE(plan)
    model.load(data)
    model = model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), plan["learning_rate"], eps=1e-8, fused=True)
    objective = torch.compile(model) if mode == "compiled" else model

    def step(images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        adam.zero_grad()
        loss = objective(images, noise)
        (loss / plan["dimension"]).backward()
        adam.step()
        return loss

    images = [torch.tensor(batch[:, ::-1, ::-1].copy()) for batch in data["images"]]
    shape = (BATCH, plan["latent_size"], plan["latent_size"], plan["latent_maps"])
    if mode == "losses":
        connection.send("ready")
        connection.recv()
        losses = [
            step(images[index % len(images)], torch.tensor(noise)).item()
            for index, noise in enumerate(data["noise"])
        ]
        connection.send(losses)
        return
    turns = Turns(connection, 5, int(steps))
    with contextlib.suppress(Ended):
        while True:
            step(images[0], torch.randn(shape))
            turns()


if __name__ == "__main__":
    main()
