"""DICOM ultrasound files for tests, written with pydicom."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

EXPLICIT, IMPLICIT, JPEG = ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit


def region(left: int, top: int, right: int, bottom: int, **values: float) -> dict[str, float]:
    """A 2D tissue region with pixels of 0.05 cm, its last column and row included."""
    return {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionLocationMinX0": left,
        "RegionLocationMinY0": top,
        "RegionLocationMaxX1": right,
        "RegionLocationMaxY1": bottom,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.05,
        "PhysicalDeltaY": 0.05,
        **values,
    }


def ultrasound(
    pictures: NDArray[np.uint8],
    *,
    photometric: str = "MONOCHROME2",
    syntax: str = EXPLICIT,
    regions: Sequence[Mapping[str, float]] = (),
    jpeg: Mapping[str, object] | None = None,
    **values: object,
) -> Dataset:
    """A data set with these pixels, ready to be spoilt.

    Args:
        pictures: u8 [N, H, W] or [N, H, W, 3], in the channels that `photometric` says.
        photometric, syntax: of the file; JPEG encodes what is RGB as Pillow does.
        regions: of the calibration.
        jpeg: options of Pillow's encoder.
        values: elements that are set last; None takes one out.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "US"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pictures.shape[:3]
    dataset.SamplesPerPixel = 1 if photometric == "MONOCHROME2" else 3
    dataset.PhotometricInterpretation = photometric
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.FrameTime = "20"
    if regions:
        dataset.SequenceOfUltrasoundRegions = [_item(values) for values in regions]
    if syntax == JPEG:
        dataset.PixelData = encapsulate([_jpeg(picture, jpeg or {}) for picture in pictures])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = pictures.tobytes() + b"\0" * (pictures.size % 2)
        dataset["PixelData"].VR = "OW"
    for name, value in values.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write it as a DICOM file."""
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.save_as(
        path, enforce_file_format=True, implicit_vr=syntax == IMPLICIT, little_endian=True
    )
    return path


def _item(values: Mapping[str, float]) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _jpeg(picture: NDArray[np.uint8], options: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", **{"quality": 95, **options})
    return buffer.getvalue()
