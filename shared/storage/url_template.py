"""URL templates of images, with `{id}`, `{size}`, `{product_id_model}` and any other column of the catalog."""

import os.path
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from shared.errors import ConfigError
from shared.refusals import Kind, Refusal
from shared.storage.files import path_of

# Asked of the CDN whatever the network takes, so that a change of model does not fetch every image again.
IMAGE_SIZE = 512
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A template such as `https://cdn.example/p{id}.jpg?f={size}x{size}` or `file:///pictures/{path}`."""

    text: str

    @property
    def fields(self) -> set[str]:
        """The names between braces."""
        return set(_FIELD.findall(self.text))

    def check(self, columns: Collection[str]) -> None:
        """Check the template. Raises `ConfigError` if it is no URL of a known scheme or names a column that is not
        there."""
        if set("{}") & set(_FIELD.sub("", self.text)):
            raise ConfigError(f"IMAGE_URL={self.text!r} is not a template: a brace is not closed.")
        try:
            scheme = urlsplit(self.text).scheme
        except ValueError as error:
            raise ConfigError(f"IMAGE_URL={self.text!r} is not a URL: {error}.") from error
        if scheme not in ("http", "https", "file"):
            raise ConfigError(f"IMAGE_URL={self.text!r} must begin with https://, http:// or file:///.")
        for name in sorted(self.fields - {"id", "size"}):
            if name not in columns:
                raise ConfigError(f"IMAGE_URL={self.text!r} names {name!r}; the catalog has: {', '.join(columns)}.")

    def fill(self, product_id: str, image_id: str, attributes: Mapping[str, str]) -> str | Refusal:
        """The URL of an image, or a refusal of kind `bad_url`. Values are escaped."""
        values = {**attributes, "id": image_id, "product_id_model": product_id}
        try:
            escaped = {name: quote(value, safe="/") for name, value in values.items()}
        except UnicodeEncodeError:
            return Refusal(Kind.BAD_URL, "A value that the image's URL needs is not valid Unicode.")
        escaped["size"] = str(IMAGE_SIZE)
        url = _FIELD.sub(lambda field: escaped[field[1]], self.text)
        if url.startswith("file://"):
            folder = str(path_of(self.text.partition("{")[0] + "_")).rpartition("/")[0]
            path = str(path_of(url))
            if "\0" in path or not os.path.normpath(path).startswith(folder + "/"):
                return Refusal(Kind.BAD_URL, f"The image's path leaves the folder {folder!r}.")
        return url
