"""Pictures to prepare."""

import pytest

from hriusr.data.image_io import write_image


@pytest.fixture
def hr_folder(tmp_path, photo):
    for number, name in enumerate(("coffee", "chelsea", "astronaut")):
        write_image(tmp_path / "HR" / f"{name}.png", photo(name)[: 61 + number, :83])
    return tmp_path / "HR"
