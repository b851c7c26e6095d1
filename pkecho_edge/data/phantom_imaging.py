"""From a moving heart to a B-mode frame: material-fixed scatterers, point spread, log compression.

Everything happens on the scan lines: a complex scatterer field fixed to the material is read
through the inverse motion (so speckle travels with the wall), weighted with the local backscatter,
blurred with the point spread, compressed and scan-converted. A Gaussian beam has a constant angular
width, 0.04 rad here: 2 mm at 5 cm and 6 mm at 15 cm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pkecho_edge.data.phantom_anatomy import Anatomy, Polar, Shape, local_polar, shape_at

__all__ = ["Acquisition", "Scanner", "draw_acquisition"]

Array = NDArray[np.float64]
Signal = NDArray[np.complex128]

_FIELD_STEP_MM = 0.5
_FIELD_SIDE = 420  # nodes; the field repeats beyond 210 mm
_BEAM_WIDTH_RAD = 0.04
_AXIAL_WIDTH_MM = 0.65
_FWHM = 2.355  # of a Gaussian, in standard deviations

# lowest and highest draw per quality
_BLOOD_DB = {"good": (-40.0, -30.0), "medium": (-34.0, -23.0), "poor": (-27.0, -16.0)}
_DROPOUT_DB = {"good": (2.0, 12.0), "medium": (8.0, 20.0), "poor": (14.0, 28.0)}
_HAZE_DB = {"good": (-38.0, -28.0), "medium": (-30.0, -20.0), "poor": (-23.0, -13.0)}
_NOISE_DB = {"good": (-46.0, -38.0), "medium": (-40.0, -31.0), "poor": (-34.0, -25.0)}
_SHADOW_DB = {"good": (0.0, 4.0), "medium": (2.0, 14.0), "poor": (8.0, 24.0)}
# the trabeculated layer looks like muscle but belongs to the cavity: the true, compacted border is
# ambiguous by the layer's unknown thickness, as it is between human readers
_TRABECULA_DB = {"good": (-9.0, -2.0), "medium": (-8.0, -1.0), "poor": (-7.0, 0.0)}
_TRABECULA_MM = {"good": (0.3, 4.0), "medium": (0.3, 5.0), "poor": (0.3, 6.0)}


@dataclass(frozen=True)
class Acquisition:
    """How one recording was made. Levels in dB relative to muscle, angles in radians."""

    depth_mm: float
    half_angle: float
    frame_rate_hz: float
    dynamic_range_db: float
    gain_db: float
    blood_db: float
    haze_db: float
    haze_depth_mm: float
    noise_db: float
    trabecula_db: float
    trabecula_mm: float
    dropouts: tuple[tuple[float, float, float], ...]  # (wall angle, width, loss in dB)
    shadow_angle: float
    shadow_width: float
    shadow_db: float
    blood_decorrelation: float


def draw_acquisition(rng: np.random.Generator, quality: str) -> Acquisition:
    """Draw the scanner's side of a recording of this quality."""

    def between(table: dict[str, tuple[float, float]]) -> float:
        return float(rng.uniform(*table[quality]))

    lateral = (float(rng.uniform(0.7, 1.9)), float(rng.uniform(0.25, 0.6)), between(_DROPOUT_DB))
    apical = (float(rng.normal(0, 0.4)), float(rng.uniform(0.2, 0.5)), 0.7 * between(_DROPOUT_DB))
    septal_angle, septal_width = float(rng.uniform(-2.0, -0.8)), float(rng.uniform(0.2, 0.4))
    septal = (septal_angle, septal_width, 0.5 * between(_DROPOUT_DB))
    return Acquisition(
        depth_mm=float(rng.uniform(150, 160)),
        half_angle=float(np.deg2rad(rng.uniform(60, 75)) / 2),
        frame_rate_hz=float(rng.uniform(30, 80)),
        dynamic_range_db=float(rng.uniform(50, 66)),
        gain_db=float(rng.uniform(-7, 4)),
        blood_db=between(_BLOOD_DB),
        haze_db=between(_HAZE_DB),
        haze_depth_mm=float(rng.uniform(35, 80)),
        noise_db=between(_NOISE_DB),
        trabecula_db=between(_TRABECULA_DB),
        trabecula_mm=between(_TRABECULA_MM),
        dropouts=(lateral, apical, septal),
        shadow_angle=float(rng.choice((-1, 1)) * rng.uniform(0.25, 0.6)),
        shadow_width=float(rng.uniform(0.03, 0.12)),
        shadow_db=between(_SHADOW_DB),
        blood_decorrelation=float(rng.uniform(0.5, 0.9)),
    )


def _noise(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    parts = rng.standard_normal((2, *shape), dtype=np.float32)
    field: NDArray[np.complex64] = parts[0] + np.complex64(1j) * parts[1]
    return field


def _read_field(field: NDArray[np.complex64], x_mm: Array, z_mm: Array) -> NDArray[np.complex64]:
    """Bilinear, periodic look-up at positions in mm, variance kept at that of the nodes."""
    column, row = x_mm / _FIELD_STEP_MM, z_mm / _FIELD_STEP_MM
    i, j = np.floor(row).astype(np.intp), np.floor(column).astype(np.intp)
    fr, fc = (row - i).astype(np.float32), (column - j).astype(np.float32)
    i0, j0 = i % _FIELD_SIDE, j % _FIELD_SIDE
    i1, j1 = (i + 1) % _FIELD_SIDE, (j + 1) % _FIELD_SIDE
    value = field[i0, j0] * ((1 - fr) * (1 - fc)) + field[i1, j0] * (fr * (1 - fc))
    value += field[i0, j1] * ((1 - fr) * fc) + field[i1, j1] * (fr * fc)
    # bilinear weights average noise away between nodes; divide by their root sum of squares
    norm = np.sqrt(((1 - fr) ** 2 + fr**2) * ((1 - fc) ** 2 + fc**2))
    return np.asarray(value / norm, dtype=np.complex64)


def _scaled(field: NDArray[np.complex64], level_db: Array) -> Signal:
    """Scatterers at a level in dB relative to muscle."""
    return np.asarray(field * 10 ** (level_db / 20))


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]) -> Array:
    """A smooth random field of unit standard deviation."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / max(float(field.std()), 1e-9))


class Scanner:
    """Renders frames of one heart with one acquisition.

    Args:
        anatomy, acquisition: what is scanned and how.
        size: (H, W) of the frames in pixels.
        seed: of scatterers and noise.
    """

    def __init__(
        self, anatomy: Anatomy, acquisition: Acquisition, size: tuple[int, int], seed: int
    ) -> None:
        self.anatomy, self.acquisition, self.size = anatomy, acquisition, size
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self._muscle = _noise(rng, _FIELD_SIDE, _FIELD_SIDE)
        self._blood = _noise(rng, _FIELD_SIDE, _FIELD_SIDE)
        self._clutter = _noise(rng, _FIELD_SIDE, _FIELD_SIDE)
        self._frame_rng = rng
        # scan lines carry the same physics at every image size
        self._radii = np.arange(0.25, acquisition.depth_mm, 0.5)
        half = acquisition.half_angle
        self._angles = np.linspace(-half, half, 104)
        r, a = np.meshgrid(self._radii, self._angles, indexing="ij")
        self._x, self._z = r * np.sin(a), r * np.cos(a)
        self._line_angle, self._range = a, r
        self._gain_db = 2.5 * _smooth(rng, r.shape, (50, 16))
        self._trabeculae = _smooth(rng, (64, 256), (5, 6))
        self._tissue_db = 4.0 * _smooth(rng, r.shape, (12, 4))
        self._surround_db = -19.0 + 8.0 * _smooth(rng, r.shape, (30, 9))
        self._resting = shape_at(anatomy, 0.0)
        # the image shows the whole sector: square pixels, probe at the top centre
        self.span_mm = max(acquisition.depth_mm, 2 * acquisition.depth_mm * float(np.sin(half)))
        self.spacing_mm = (self.span_mm / size[0], self.span_mm / size[1])
        rows = (np.arange(size[0]) + 0.5) * self.spacing_mm[0]
        columns = (np.arange(size[1]) + 0.5) * self.spacing_mm[1] - self.span_mm / 2
        self._pixel_z, self._pixel_x = np.meshgrid(rows, columns, indexing="ij")
        self._to_lines = self._scan_conversion()

    def _scan_conversion(self) -> Array:
        radius = np.hypot(self._pixel_x, self._pixel_z)
        angle = np.arctan2(self._pixel_x, self._pixel_z)
        step_r = self._radii[1] - self._radii[0]
        step_a = self._angles[1] - self._angles[0]
        return np.stack([(radius - self._radii[0]) / step_r, (angle - self._angles[0]) / step_a])

    def mask(self, contracted: float) -> NDArray[np.bool_]:
        """The exact cavity bool [H, W]: pixel centres inside the border and inside the sector."""
        polar = local_polar(shape_at(self.anatomy, contracted), self._pixel_x, self._pixel_z)
        line, sample = self._to_lines
        seen = (line >= 0) & (line <= len(self._radii) - 1)
        seen &= (sample >= 0) & (sample <= len(self._angles) - 1)
        return np.asarray((polar.depth_mm < 0) & seen)

    def frame(self, contracted: float, time_s: float) -> NDArray[np.uint8]:
        """One frame u8 [H, W]; black outside the sector."""
        shape = shape_at(self.anatomy, contracted)
        polar = local_polar(shape, self._x, self._z)
        level_db = self._backscatter_db(shape, polar)
        x, z = self._material(shape, polar)
        tissue = _read_field(self._muscle, x, z)
        drift = 260.0 * self.acquisition.blood_decorrelation * time_s
        blood = _read_field(self._blood, x + drift, z - 0.7 * drift)
        signal = _scaled(np.where(level_db.blood, blood, tissue), level_db.level)
        lines = self._point_spread((signal + self._haze(time_s)).astype(np.complex64))
        return self._display(np.abs(lines + self._thermal_noise()))

    def _material(self, shape: Shape, polar: Polar) -> tuple[Array, Array]:
        """Where each point was at end-diastole, in mm: the inverse of the wall's motion."""
        rest = self._resting
        border = rest.radius(polar.angle)
        inside = polar.radius_mm * border / polar.border_mm
        wall = border + polar.depth_mm * rest.wall_mm / shape.wall_mm
        beyond = border + rest.wall_mm + (polar.depth_mm - shape.wall_mm)
        radius = np.where(
            polar.depth_mm < 0, inside, np.where(polar.depth_mm < shape.wall_mm, wall, beyond)
        )
        scale = radius / np.maximum(polar.radius_mm, 1e-6)
        x = rest.centre_x_mm + (self._x - shape.centre_x_mm) * scale
        z = rest.centre_z_mm + (self._z - shape.centre_z_mm) * scale
        # the chest does not move: displacement dies out beyond the wall
        decay = np.exp(-np.maximum(polar.depth_mm - shape.wall_mm, 0) / 14)
        return self._x + (x - self._x) * decay, self._z + (z - self._z) * decay

    def _backscatter_db(self, shape: Shape, polar: Polar) -> _Backscatter:
        acquisition, depth, angle = self.acquisition, polar.depth_mm, polar.angle
        level = self._surround_db  # lung, fat and pericardial tissue around the heart
        basal = np.abs(angle) > _basal_angle(shape)
        in_wall = (depth >= 0) & (depth < shape.wall_mm) & ~basal
        level = np.where(in_wall, self._tissue_db * 0.6, level)
        blood = (depth < 0) | self._other_chambers(shape, polar, basal)
        level = np.where(blood, acquisition.blood_db, level)
        level = self._near_border(shape, polar, level, basal)
        for wall_angle, width, loss in acquisition.dropouts:
            window = np.exp(-0.5 * ((angle - wall_angle) / width) ** 2)
            near_wall = (depth > -12) & (depth < shape.wall_mm + 4)
            level = level - np.where(near_wall, loss * window, 0)
        shadow = (self._line_angle - acquisition.shadow_angle) / acquisition.shadow_width
        level = level - acquisition.shadow_db * np.exp(-0.5 * shadow**2)
        level = np.maximum(level, acquisition.blood_db - 3)
        return _Backscatter(level + self._gain_db, blood)

    def _other_chambers(
        self, shape: Shape, polar: Polar, basal: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Right ventricle beside the septum and left atrium below the mitral plane."""
        depth, angle = polar.depth_mm - shape.wall_mm, polar.angle
        bulge = np.clip(np.sin(np.clip((-angle - 0.55) / 1.75, 0, 1) * np.pi), 0, 1)
        right = (angle < 0) & (depth > 0) & (depth < self.anatomy.rv_width_mm * bulge) & ~basal
        reach = 1 - ((np.pi - np.abs(angle)) / (np.pi - _basal_angle(shape))) ** 2
        length = self.anatomy.la_length_mm * np.sqrt(np.clip(reach, 0, 1))
        atrium = basal & (polar.depth_mm > 2.0) & (polar.depth_mm < length)
        return np.asarray(right | atrium)

    def _near_border(
        self, shape: Shape, polar: Polar, level: Array, basal: NDArray[np.bool_]
    ) -> Array:
        """Trabeculae blur the inner border, leaflets close it, the pericardium is bright."""
        depth, angle = polar.depth_mm, polar.angle
        # read the texture by wall angle and relative depth, so that it moves with the wall
        row = np.clip((-depth / polar.border_mm) * 128, 0, 63).astype(np.intp)
        column = ((angle / (2 * np.pi) + 0.5) * 255).astype(np.intp)
        texture = self._trabeculae[row, column]
        reach = self.acquisition.trabecula_mm * (1 + 0.45 * texture)
        # full strength inside the layer, gone 1.5 mm further in
        trabecula = self.acquisition.trabecula_db - 20 * np.clip((-depth - reach) / 1.5, 0, 3)
        level = np.where((depth < 0) & ~basal, np.maximum(level, trabecula), level)
        leaflet = -6 - 1.6 * (depth - 1.0) ** 2 - 4 * (np.pi - np.abs(angle))
        level = np.where(basal, np.maximum(level, leaflet), level)
        outer = depth - shape.wall_mm - 1.2
        pericardium = 5 - 2.0 * outer**2 - 14 * np.abs(angle - 1.5)
        return np.asarray(np.maximum(level, pericardium))

    def _haze(self, time_s: float) -> Signal:
        """Near-field clutter and reverberation: stands still while the heart moves."""
        acquisition = self.acquisition
        level = acquisition.haze_db - 14 * (self._range / acquisition.haze_depth_mm - 1)
        near_probe = 14 * np.exp(-self._range / 8)
        field = _read_field(self._clutter, self._x, self._z + 0.3 * np.sin(5 * time_s))
        return _scaled(field, level + near_probe)

    def _thermal_noise(self) -> Signal:
        depth = self._range / self.acquisition.depth_mm
        noise = _noise(self._frame_rng, *self._range.shape)
        return _scaled(noise, self.acquisition.noise_db + 12 * depth)

    def _point_spread(self, lines: NDArray[np.complex64]) -> NDArray[np.complex64]:
        axial = _AXIAL_WIDTH_MM / _FWHM / float(self._radii[1] - self._radii[0])
        lateral = _BEAM_WIDTH_RAD / _FWHM / float(self._angles[1] - self._angles[0])
        out = np.empty_like(lines)
        for part in ("real", "imag"):
            blurred = ndimage.gaussian_filter(getattr(lines, part), (axial, lateral), truncate=3)
            setattr(out, part, blurred)
        # keep muscle at 0 dB: a Gaussian kernel lowers white noise by sqrt(4 pi s1 s2)
        gain = np.sqrt(np.sqrt(4 * np.pi) * axial * np.sqrt(4 * np.pi) * lateral)
        out *= np.float32(max(1.0, float(gain)))
        return out

    def _display(self, envelope: NDArray[np.floating]) -> NDArray[np.uint8]:
        acquisition = self.acquisition
        level = 20 * np.log10(np.maximum(envelope, 1e-6)) + acquisition.gain_db - 12
        grey = np.clip(1 + level / acquisition.dynamic_range_db, 0, 1) * 255
        image = ndimage.map_coordinates(
            grey.astype(np.float32), self._to_lines, order=1, mode="constant", cval=0
        )
        return np.asarray(image + 0.5, dtype=np.uint8)


@dataclass(frozen=True)
class _Backscatter:
    level: Array
    blood: NDArray[np.bool_]


def _basal_angle(shape: Shape) -> float:
    """Half-plane angle beyond which the border is the mitral orifice, not muscle."""
    return float(np.pi - np.arctan2(0.8 * shape.half_width_mm, shape.basal_mm))
