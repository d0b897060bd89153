#!/bin/sh
# System packages that pip cannot bring: Python's venv module, and what Qt and a virtual screen need on Linux.
# Looks first. Only if something is missing: installs it on Debian and its kin as root, elsewhere says what to run.
#
#   system-libs.sh venv PYTHON    before the virtual environment is made
#   system-libs.sh qt VENV        when PyQt6 is in it
set -eu

QT_DEBIAN="libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libopengl0 libxcb-cursor0 libxcb-icccm4 libxcb-image0
    libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-sync1 libxcb-xfixes0 libxcb-xinerama0
    libxcb-xkb1 libxkbcommon-x11-0 libxkbcommon0 fonts-dejavu-core xauth xvfb"
QT_FEDORA="dbus-libs dejavu-sans-fonts fontconfig glib2 libglvnd-egl libglvnd-glx libglvnd-opengl libxkbcommon-x11
    xcb-util-cursor xcb-util-image xcb-util-keysyms xcb-util-renderutil xcb-util-wm xorg-x11-server-Xvfb xorg-x11-xauth"

# Names what Qt would not find, one a line; nothing if all is there.
missing_for_qt() {
    for folder in "$1"/lib/python3*/site-packages/PyQt6/Qt6; do
        for library in plugins/platforms/libqxcb.so plugins/xcbglintegrations/libqxcb-glx-integration.so \
            lib/libQt6Widgets.so.6 lib/libQt6OpenGLWidgets.so.6; do
            [ ! -e "$folder/$library" ] || ldd "$folder/$library" | sed -n 's/^[[:space:]]*\(.*\) => not found.*/\1/p'
        done
    done
    # opened by name while running, so that ldd does not see it
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libGL\.so\.1' || echo libGL.so.1
    if [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
        for program in xvfb-run xauth; do
            command -v "$program" >/dev/null || echo "$program"
        done
    fi
}

# provide WHAT DEBIAN_PACKAGES FEDORA_PACKAGES: installs them or says how, and then fails.
provide() {
    debian=$(echo $2) # on one line
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "Installing system packages, missing here: $1"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q -o DPkg::Lock::Timeout=120 update || echo "Some package lists were not updated; going on." >&2
        # shellcheck disable=SC2086 # a list of packages
        apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends $debian </dev/null
        return
    fi
    echo "Missing on this machine: $1. Run this, then make again:" >&2
    if command -v apt-get >/dev/null; then
        echo "  sudo apt-get update && sudo apt-get install -y $debian" >&2
    elif command -v dnf >/dev/null; then
        echo "  sudo dnf install -y $(echo $3)" >&2
    else
        echo "  (your package manager) install the packages that hold them; on Debian these are: $debian" >&2
    fi
    return 1
}

[ "$(uname)" = Linux ] || exit 0 # Qt brings all it needs to macOS

case ${1:-} in
venv)
    "$2" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    version=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    provide "the venv module of Python $version" "python$version-venv" "python$version"
    ;;
qt)
    missing=$(missing_for_qt "$2" | sort -u)
    [ -z "$missing" ] && exit 0
    provide "$(echo $missing)" "$QT_DEBIAN" "$QT_FEDORA"
    ;;
*)
    echo "Usage: $0 venv PYTHON | qt VENV" >&2
    exit 2
    ;;
esac
