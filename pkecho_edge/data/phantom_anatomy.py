"""A left ventricle that can be written down: exact cavity, moving wall, and what lies around it.

The cavity is star-shaped around a centre on its long axis: half an ellipse towards the apex, half a
superellipse towards the flat mitral plane, with a low-order perturbation. All lengths are in mm in
the plane of the scan: x lateral, z depth below the probe. Sizes follow adult apical four-chamber
norms (Lang et al., chamber quantification, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Anatomy", "Polar", "Shape", "contraction", "draw_anatomy", "local_polar", "shape_at"]

Array = NDArray[np.float64]

_BASE_EXPONENT = 3.2  # flat mitral plane with rounded corners
_APICAL_SHARE = 0.62  # of the long axis lies on the apical side of the centre


@dataclass(frozen=True)
class Anatomy:
    """One heart. Lengths in mm at end-diastole, angles in radians, fractions without unit."""

    long_axis_mm: float
    short_axis_mm: float
    wall_mm: float
    ejection_fraction: float
    apex_x_mm: float
    apex_z_mm: float
    tilt: float
    heart_rate_bpm: float
    systole_share: float
    long_axis_shortening: float
    perturbation: tuple[tuple[float, float], ...]  # (amplitude, phase) of cos 2..5
    dynamic_perturbation: tuple[float, float]
    rv_width_mm: float
    la_length_mm: float

    @property
    def short_axis_shortening(self) -> float:
        """Solves EF = 1 - (1 - long)(1 - short)^2."""
        remaining = (1 - self.ejection_fraction) / (1 - self.long_axis_shortening)
        return 1 - float(np.sqrt(remaining))


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a heart; the same generator state gives the same heart."""
    ef = float(np.clip(rng.normal(0.52, 0.14), 0.15, 0.75))
    share = float(rng.uniform(0.25, 0.42))
    return Anatomy(
        long_axis_mm=float(rng.uniform(75, 100)),
        short_axis_mm=float(rng.uniform(40, 58)),
        wall_mm=float(rng.uniform(6, 10)),
        ejection_fraction=ef,
        apex_x_mm=float(rng.normal(0, 7)),
        apex_z_mm=float(rng.uniform(18, 34)),
        tilt=float(rng.normal(0, 0.13)),
        heart_rate_bpm=float(rng.uniform(50, 110)),
        systole_share=float(rng.uniform(0.30, 0.40)),
        long_axis_shortening=min(share * ef, 0.28),
        perturbation=tuple(
            (float(rng.normal(0, 0.045 / (k - 1))), float(rng.uniform(0, 2 * np.pi)))
            for k in range(2, 6)
        ),
        dynamic_perturbation=(float(rng.normal(0, 0.03)), float(rng.uniform(0, 2 * np.pi))),
        rv_width_mm=float(rng.uniform(14, 30)),
        la_length_mm=float(rng.uniform(32, 52)),
    )


def contraction(anatomy: Anatomy, phase: Array | float) -> Array:
    """0 at end-diastole, 1 at end-systole. phase: share of the cycle since ED, any real number."""
    p = np.mod(np.asarray(phase, dtype=np.float64), 1.0)
    end = anatomy.systole_share
    rising = 0.5 - 0.5 * np.cos(np.pi * np.clip(p / end, 0, 1))
    # early filling takes two thirds of the volume back, the atrial kick the rest
    early = 0.5 - 0.5 * np.cos(np.pi * np.clip((p - end) / 0.28, 0, 1))
    late = 0.5 - 0.5 * np.cos(np.pi * np.clip((p - 0.82) / 0.18, 0, 1))
    return np.where(p <= end, rising, 1 - 0.72 * early - 0.28 * late)


@dataclass(frozen=True)
class Shape:
    """The cavity at one moment."""

    anatomy: Anatomy
    contraction: float
    centre_x_mm: float
    centre_z_mm: float
    apical_mm: float
    basal_mm: float
    half_width_mm: float
    wall_mm: float

    def radius(self, angle: Array) -> Array:
        """Distance centre to border in mm; angle 0 points to the apex, pi to the mitral plane."""
        cosine, sine = np.cos(angle), np.abs(np.sin(angle)) / self.half_width_mm
        apical = ((np.abs(cosine) / self.apical_mm) ** 2 + sine**2) ** -0.5
        n = _BASE_EXPONENT
        basal = ((np.abs(cosine) / self.basal_mm) ** n + sine**n) ** (-1 / n)
        radius = np.where(cosine > 0, apical, basal)
        for order, (amplitude, phase) in enumerate(self.anatomy.perturbation, start=2):
            radius = radius * (1 + amplitude * np.cos(order * angle + phase))
        amplitude, phase = self.anatomy.dynamic_perturbation
        moved: Array = radius * (1 + amplitude * self.contraction * np.cos(3 * angle + phase))
        return moved


def shape_at(anatomy: Anatomy, contracted: float) -> Shape:
    """The cavity when it has contracted by 0 (ED) to 1 (ES); the apex stays where it is."""
    length = anatomy.long_axis_mm * (1 - anatomy.long_axis_shortening * contracted)
    width = anatomy.short_axis_mm * (1 - anatomy.short_axis_shortening * contracted)
    apical = _APICAL_SHARE * length
    thickening = 1 + 0.7 * anatomy.ejection_fraction * contracted
    return Shape(
        anatomy=anatomy,
        contraction=contracted,
        centre_x_mm=anatomy.apex_x_mm + apical * float(np.sin(anatomy.tilt)),
        centre_z_mm=anatomy.apex_z_mm + apical * float(np.cos(anatomy.tilt)),
        apical_mm=apical,
        basal_mm=length - apical,
        half_width_mm=width / 2,
        wall_mm=anatomy.wall_mm * thickening,
    )


@dataclass(frozen=True)
class Polar:
    """Points around a shape's centre, all arrays of one shape.

    Attributes:
        radius_mm: distance from the centre.
        angle: 0 towards the apex, positive towards the lateral wall, -pi to pi.
        depth_mm: distance outside the border along the ray; negative inside the cavity.
        border_mm: the border's radius in that direction.
    """

    radius_mm: Array
    angle: Array
    depth_mm: Array
    border_mm: Array


def local_polar(shape: Shape, x_mm: Array, z_mm: Array) -> Polar:
    """World points, any one shape, as seen from the cavity's centre."""
    dx, dz = x_mm - shape.centre_x_mm, z_mm - shape.centre_z_mm
    tilt = shape.anatomy.tilt
    towards_apex = -(dx * np.sin(tilt) + dz * np.cos(tilt))
    lateral = dx * np.cos(tilt) - dz * np.sin(tilt)
    angle = np.arctan2(lateral, towards_apex)
    radius = np.hypot(dx, dz)
    border = shape.radius(angle)
    return Polar(radius, angle, radius - border, border)
