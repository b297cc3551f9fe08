#!/usr/bin/env python3
"""Builds the corpus that the starter model is trained on, from Debian packages:

    deploy/starter/corpus.py [--to build/corpus/starter] [--work build/corpus/work]

Packages are fetched with apt and unpacked, nothing is installed. 25 domains are trained on; five more (x_...) are only
in the validation and test splits. Versions and licences of what came go into the corpus's card. Downloads are kept in
--work, so that a second run takes seconds.
"""
import argparse
import glob
import gzip
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

# label: (licence, packages, patterns of files below the unpacked packages, how to read them)
DOMAINS = {
    "man_en": ("GPL-2+ and page licences", ["manpages", "manpages-dev"], ["usr/share/man/man*/*.gz"], "gz"),
    "man_de": ("GPL-3+ and page licences", ["manpages-de", "manpages-de-dev"], ["usr/share/man/de/man*/*.gz"], "gz"),
    "man_fr": ("GPL-3+ and page licences", ["manpages-fr", "manpages-fr-dev"], ["usr/share/man/fr/man*/*.gz"], "gz"),
    "man_ru": ("GPL-3+ and page licences", ["manpages-ru", "manpages-ru-dev"], ["usr/share/man/ru/man*/*.gz"], "gz"),
    "man_ja": ("mixed free, per page", ["manpages-ja", "manpages-ja-dev"], ["usr/share/man/ja/man*/*.gz"], "gz"),
    "c": ("LGPL-2.1+", ["glibc-source"], ["usr/src/glibc/glibc-*.tar.xz"], "tar:.c"),
    "cpp": ("BSL-1.0", ["libboost1.74-dev"], ["usr/include/boost/**/*.hpp"], "plain"),
    "python": ("PSF-2, BSD-3", ["libpython3.11-stdlib", "python3-django"],
               ["usr/lib/python3*/**/*.py"], "plain"),
    "perl": ("Artistic/GPL-1+", ["perl-modules-5.36"], ["usr/share/perl/**/*.pm", "usr/share/perl/**/*.pl"], "plain"),
    "go": ("BSD-3", ["golang-1.19-src"], ["usr/share/go-1.19/src/**/*.go"], "plain"),
    "java": ("GPL-2 with classpath exception", ["openjdk-17-source"],
             ["usr/lib/jvm/openjdk-17/lib/src.zip", "usr/lib/jvm/openjdk-17/src.zip"], "zip:java.:.java"),
    "rust": ("MIT or Apache-2.0", ["rust-src"], ["usr/src/rustc-*/**/*.rs", "usr/lib/rustlib/**/*.rs"], "plain"),
    "js": ("MIT, BSD", ["eslint", "webpack", "libjs-dojo-core", "mocha", "yarnpkg"],
           ["usr/share/**/*.js", "usr/lib/**/*.js"], "plain"),
    "ruby": ("BSD-2 or Ruby", ["libruby3.1"], ["usr/lib/ruby/**/*.rb", "usr/share/**/*.rb"], "plain"),
    "php": ("MIT", ["php-symfony-console", "php-symfony-dependency-injection", "php-symfony-form",
                    "php-symfony-http-foundation", "php-symfony-http-kernel"], ["usr/share/php/**/*.php"], "plain"),
    "elisp": ("GPL-3+", ["emacs-el"], ["usr/share/emacs/**/*.el.gz"], "gz"),
    "vim": ("Vim", ["vim-runtime"], ["usr/share/vim/**/*.vim"], "plain"),
    "octave": ("GPL-3+", ["octave-common"], ["usr/share/octave/**/*.m"], "plain"),
    "html": ("PSF-2", ["python3.11-doc"], ["usr/share/doc/**/*.html"], "body"),
    "prose": ("GPL-2+", ["anarchism"], ["usr/share/doc/anarchism/**/*.html", "usr/share/doc/anarchism/**/*.html.gz"],
              "strip"),
    "json": ("Apache-2.0", ["python3-botocore"], ["usr/lib/python3/**/*.json"], "plain"),
    "po": ("BSD-3", ["python3-django"], ["usr/lib/python3/**/*.po"], "plain"),
    "latex": ("LPPL mostly", ["texlive-latex-base", "texlive-latex-recommended"],
              ["usr/share/texlive/texmf-dist/**/*.sty", "usr/share/texlive/texmf-dist/**/*.cls",
               "usr/share/texlive/texmf-dist/**/*.tex"], "plain"),
    "shell": ("GPL-2+, Zsh", ["bash-completion", "zsh-common"],
              ["usr/share/bash-completion/completions/*", "usr/share/zsh/functions/**/*"], "plain"),
    "dict": ("GPL-3+", ["dict-gcide"], ["usr/share/dictd/*.dict.dz"], "pieces"),
    "x_changelog": ("per package", "all", ["usr/share/doc/**/changelog*.gz", "usr/share/doc/**/NEWS*.gz"], "gz"),
    "x_man_es": ("GPL-3+", ["manpages-es"], ["usr/share/man/es/man*/*.gz"], "gz"),
    "x_xsl": ("DocBook", ["docbook-xsl"], ["usr/share/xml/docbook/**/*.xsl"], "plain"),
    "x_cmake": ("BSD-3", ["cmake-data"], ["usr/share/cmake-*/Modules/**/*.cmake"], "plain"),
    "x_zh": ("GPL-2+", ["installation-guide-amd64", "debian-reference-zh-cn"],
             ["usr/share/doc/**/zh_CN/**/*.html", "usr/share/doc/**/*zh*cn*.html", "usr/share/debian-reference/*zh-cn*.html",
              "usr/share/doc/**/*.zh-cn.*"], "strip"),
}
LEAST_BYTES = 2048
PIECE_BYTES = 12 * 1024


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def fetch(packages, debs):
    """Downloads what is not there yet. Packages that apt does not know are named and left out."""
    known = []
    for package in packages:
        if glob.glob(os.path.join(debs, package + "_*.deb")):
            known.append(package)
        elif subprocess.run(["apt-get", "download", package], cwd=debs, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, check=False).returncode == 0:
            known.append(package)
        else:
            print(f"{package}: apt does not have it; left out", file=sys.stderr)
    return known


def unpack(package, debs, root):
    """Returns the package's version; unpacks it once."""
    deb = sorted(glob.glob(os.path.join(debs, package + "_*.deb")))[-1]
    folder = os.path.join(root, package)
    if not os.path.isdir(folder):
        run("dpkg-deb", "-x", deb, folder + ".tmp")
        os.rename(folder + ".tmp", folder)
    return run("dpkg-deb", "-f", deb, "Version").strip()


def strip_html(text):
    text = re.sub(r"(?is)<(script|style|head).*?</\1>", "", text)
    text = re.sub(r"(?s)<[^>]+>", "", text)
    text = html.unescape(text)
    return re.sub(r"\n\s*\n\s*\n+", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def read(path, how):
    """Yields (name, bytes) of the documents that a file holds."""
    name = os.path.basename(path)
    if how.startswith("tar:"):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(how[4:]):
                    yield member.name, archive.extractfile(member).read()
        return
    if how.startswith("zip:"):
        _, prefix, suffix = how.split(":")
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.startswith(prefix) and member.endswith(suffix):
                    yield member, archive.read(member)
        return
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith((".gz", ".dz")):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    if how == "pieces":
        for i, begin in enumerate(range(0, len(data), PIECE_BYTES)):
            if i % 4 == 0:
                yield f"{name}.{i}", data[begin:begin + PIECE_BYTES].decode("utf-8", "ignore").encode()
        return
    if how == "body":
        text = data.decode("utf-8", "ignore")
        found = re.search(r"(?is)<div class=\"body\".*?>(.*)<div class=\"sphinxsidebar\"", text)
        data = (found.group(1) if found else text).encode()
    if how == "strip":
        data = strip_html(data.decode("utf-8", "ignore")).encode()
    yield name, data


def gather(label, roots, patterns, how, texts):
    folder = os.path.join(texts, label)
    os.makedirs(folder)
    seen = set()
    count = 0
    for root in roots:
        for pattern in patterns:
            for path in sorted(glob.glob(os.path.join(root, pattern), recursive=True)):
                if not os.path.isfile(path) or os.path.islink(path) or path in seen:
                    continue
                seen.add(path)
                try:
                    documents = list(read(path, how))
                except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile):
                    continue
                for name, data in documents:
                    if len(data) < LEAST_BYTES or b"\0" in data:
                        continue
                    relative = os.path.relpath(path, os.path.dirname(root))
                    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", f"{relative}-{name}")[-180:]
                    with open(os.path.join(folder, f"{count:05d}-{safe}"), "wb") as file:
                        file.write(data)
                    count += 1
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="build/corpus/starter")
    parser.add_argument("--work", default="build/corpus/work")
    parser.add_argument("--trainer", default="build/release/bin/dreamstate-trainer")
    parser.add_argument("--label-bytes", default="4194304", help="text taken of a domain")
    arguments = parser.parse_args()
    debs, root, texts = (os.path.join(os.path.abspath(arguments.work), name) for name in ("debs", "unpacked", "texts"))
    for folder in (debs, root):
        os.makedirs(folder, exist_ok=True)
    shutil.rmtree(texts, ignore_errors=True)
    wanted = sorted({package for _, packages, _, _ in DOMAINS.values() if packages != "all" for package in packages})
    print(f"fetching {len(wanted)} packages", flush=True)
    have = fetch(wanted, debs)
    versions = {package: unpack(package, debs, root) for package in have}
    for label, (licence, packages, patterns, how) in sorted(DOMAINS.items()):
        packages = have if packages == "all" else [package for package in packages if package in have]
        count = gather(label, [os.path.join(root, package) for package in packages], patterns, how, texts)
        if count == 0:
            print(f"{label}: no documents; left out", file=sys.stderr)
            shutil.rmtree(os.path.join(texts, label))
            continue
        shown = packages if len(packages) < 8 else ["all packages of the other domains"]
        source = {"source": "Debian: " + ", ".join(shown), "licence": licence,
                  "version": ", ".join(versions[p] for p in packages) if len(packages) < 8 else "as they are there"}
        with open(os.path.join(texts, label, "source.json"), "w", encoding="utf-8") as file:
            json.dump(source, file)
    shutil.rmtree(arguments.to, ignore_errors=True)
    sys.stdout.flush()
    os.execv(arguments.trainer, [arguments.trainer, "corpus", texts, "--to", arguments.to, "--label-bytes",
                                 arguments.label_bytes])


if __name__ == "__main__":
    main()
