# Installs one package into /opt/package. Runs as root in a build container, never on the host.
#   sh build_package.sh pypi|npm NAME "SYSTEM PACKAGES" REQUIREMENT...
# The folder it lies in is in memory and is no part of the image; beside it are the settings of the node (ca.pem, apt.conf,
# links-N, and `settings`, which names them). What it prints goes to people, but for the lines that begin with `::`.
set -eu
here=$(dirname "$0")
registry=$1 name=$2 system=$3
shift 3
. "$here/settings"

if [ -n "$system" ]; then
  echo "::step adding $system"
  export DEBIAN_FRONTEND=noninteractive APT_CONFIG="$here/apt.conf"
  apt-get -q update
  # shellcheck disable=SC2086 # names without spaces, checked before they came here
  apt-get -qy install --no-install-recommends $system
  rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
fi

echo "::step installing $name"
case $registry in
pypi)
  python3 -m venv --without-pip /opt/package
  if ! python3 -m pip --version >/dev/null 2>&1; then
    # Debian's Python has pip only as a wheel for new environments; it runs from there, and the image stays without it.
    PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl)
    export PYTHONPATH
  fi
  python3 -m pip --python /opt/package/bin/python install --no-cache-dir --no-input --progress-bar off \
    --root-user-action ignore --disable-pip-version-check "$@"
  unset PYTHONPATH
  echo "::scripts $(/opt/package/bin/python -I - "$name" <<'PYTHON'
import json, sys
from importlib.metadata import distribution
points = distribution(sys.argv[1]).entry_points
print(json.dumps(sorted(each.name for each in points if each.group == "console_scripts")))
PYTHON
  )"
  ;;
npm)
  npm install --global --prefix /opt/package --omit=dev --no-audit --no-fund --no-update-notifier \
    --loglevel=error --cache /tmp/npm-cache "$@"
  find /opt/package -name .package-lock.json -delete # it says where each file came from
  echo "::scripts $(node -e '
    const found = require("/opt/package/lib/node_modules/" + process.argv[1] + "/package.json");
    const own = found.name.replace(/^@[^/]*\//, "");
    const bins = typeof found.bin === "string" ? [own] : Object.keys(found.bin || {});
    console.log(JSON.stringify(bins.sort()));
  ' "$name")"
  ;;
esac
