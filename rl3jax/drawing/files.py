"""Pictures as the bytes of files: PNG, GIF, and, with an extra installed, MP4."""

import importlib
import io
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from types import ModuleType

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from rl3jax.checks import ConfigError

EXACT, MEANT, OTHERS = 128, 1024, 127
"""Colours of a GIF: the most frequent as they are, and means of those that come next."""
UNCHANGED = EXACT + OTHERS
"""The one colour left of a GIF's 256: as in the frame before."""

Frame = UInt8[np.ndarray, "height width 3"]


def png(image: Frame) -> bytes:
    """One picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def gif(frames: Iterable[Frame], seconds: Sequence[float], samples: Sequence[Frame]) -> bytes:
    """A film that repeats for ever.

    Args:
        frames: as many as `seconds`; one at a time is in memory in full colour.
        seconds: how long each is shown, in hundredths as GIF has it.
        samples: frames whose colours all of them are drawn with.
    """
    palette = _Palette(np.concatenate([sample.reshape(-1, 3) for sample in samples]))
    images = (palette.image(frame) for frame in frames)
    buffer = io.BytesIO()
    next(images).save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=[round(100 * s) * 10 for s in seconds],
        loop=0,
        disposal=1,
        palette=palette.bytes,  # once for all frames
        transparency=UNCHANGED,
        optimize=True,  # pixels as in the frame before are transparent
    )
    return buffer.getvalue()


class _Palette:
    """256 colours, `bytes`, and the nearest to any colour of those but the last.

    Pillow's own palettes blend flat colours with what lies near them, so that white is not white.
    """

    def __init__(self, pixels: UInt8[np.ndarray, "n 3"]) -> None:
        colours, counts = np.unique(_packed(pixels), return_counts=True)
        frequent = colours[np.argsort(-counts, kind="stable")]
        used = frequent[:EXACT]
        if len(frequent) > EXACT:  # the rarest are edges of letters, and much like others
            others = Image.fromarray(_unpacked(frequent[EXACT : EXACT + MEANT])[None])
            means = np.array(
                others.quantize(OTHERS, Image.Quantize.MAXCOVERAGE).getpalette(), np.uint8
            ).reshape(-1, 3)
            used = np.concatenate([used, np.setdiff1d(_packed(means[:OTHERS]), used)])
        self._colours = _unpacked(used)
        spare = np.setdiff1d(np.arange(256), used)  # Pillow tells colours apart, not their places
        self.bytes = _unpacked(np.concatenate([used, spare])[:256]).tobytes()
        self._nearest = np.full(1 << 24, -1, np.int16)  # of each packed colour, once it is known

    def image(self, frame: Frame) -> Image.Image:
        """The frame in these colours."""
        packed = _packed(frame)
        new = np.unique(packed[self._nearest[packed] < 0])
        distance = np.square(_unpacked(new)[:, None].astype(int) - self._colours[None]).sum(axis=2)
        self._nearest[new] = distance.argmin(axis=1)
        image = Image.fromarray(self._nearest[packed].astype(np.uint8))
        image.putpalette(self.bytes)
        return image


def _packed(colours: UInt8[np.ndarray, "*any 3"]) -> Int[np.ndarray, "*any"]:
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _unpacked(packed: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)


def mp4(frames: Iterable[Frame], seconds: Sequence[float], fps: float) -> bytes:
    """A film at `fps` frames a second, in which each frame stays for about its seconds.

    Raises:
        ConfigError: if the package that writes it is not installed.
    """
    pairs = zip(frames, seconds, strict=True)
    first, hold = next(pairs)
    height, width, _ = first.shape
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps:g} -i -"
    target = "-c:v libx264 -crf 18 -pix_fmt yuv420p -movflags +faststart"  # what browsers play
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        command = [video_package().get_ffmpeg_exe(), "-loglevel", "error", *source.split()]
        command += [*target.split(), str(path)]
        with Popen(command, stdin=PIPE, stderr=PIPE) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it says itself what is wrong
                for frame, shown in itertools.chain([(first, hold)], pairs):
                    process.stdin.write(frame.tobytes() * max(1, round(shown * fps)))
            _, message = process.communicate()
        if process.returncode != 0:
            raise ConfigError(f"ffmpeg wrote no film: {' '.join(message.decode().split())}")
        return path.read_bytes()


def video_package() -> ModuleType:
    """What writes MP4.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise ConfigError(
            "an .mp4 needs the package imageio-ffmpeg: pip install 'rl3jax[video]'; .gif and .png "
            "need nothing more"
        ) from error
