"""Hooks of mkdocs for the site: the README is its first page, and links to files outside docs/ become plain text."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from mkdocs.structure.files import File, Files

LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s:]+)\)")
MARKED = re.compile(r"^```arch [a-z ]+$", re.M)
"""The first line of an example with words for the tests, which the site's Markdown does not know."""
CODE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def on_files(files: Files, config: Any) -> Files:
    readme = (Path(config.config_file_path).parent / "README.md").read_text("utf-8")
    files.append(File.generated(config, "index.md", content=readme.replace("](docs/", "](")))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Files) -> str:
    """Without the links to files that are not in the site."""
    folder = PurePosixPath(page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        target = normpath(str(folder / match[2].partition("#")[0]))
        inside = match[2].startswith("#") or files.get_file_from_path(target) is not None
        # A link to a page of docs/ that is missing stays, so that the build fails.
        stays = inside or (target.endswith(".md") and not target.startswith("..") and target != "CONTRIBUTING.md")
        return match[0] if stays else match[1]

    text = MARKED.sub("```arch", text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in CODE.split(text))
