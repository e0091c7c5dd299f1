#!/bin/sh
# By hand, with Chromium: a merge of models whose names are hostile gives a page on which nothing of
# them runs, with its policy and, to see that the escaping alone is enough, without it; and the page
# makes no request. Needs python3 for the models.
# usage: tools/check_report.sh PATH_OF_LEWIS [PATH_OF_CHROMIUM]
set -eu
lewis=$(realpath "$1")
chromium=${2:-chromium}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The demo's models with one tensor more, under a name that would end a script and begin another.
python3 - "$work" <<'PYTHON'
import json, pathlib, shutil, struct, sys
work = pathlib.Path(sys.argv[1])
evil = "</script><script>document.title='HACKED'</script><img src=x onerror=\"document.title='HACKED'\">"
for model in ("base", "math", "code"):
    folder = work / "</title><script>document.title='HACKED'<" / "script>" / model
    shutil.copytree(pathlib.Path("demo/models") / model, folder)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    end = max(t["data_offsets"][1] for n, t in header.items() if n != "__metadata__")
    for name in (evil, "model.layers.3." + evil + ".weight"):
        header[name] = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [end, end + 8]}
        data += struct.pack("<4H", 0x3f80, 0x3f81 if model == "math" else 0x3f82, 0x4000, 0x3f80)
        end += 8
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
place = json.dumps(str(folder.parent))[1:-1]
(work / "recipe.yml").write_text(
    'merge_method: ties\nbase_model: "%s/base"\nmodels:\n' % place +
    "".join('- model: "%s/%s"\n  parameters: {weight: 1, density: 0.5}\n' % (place, m) for m in ("math", "code")))
PYTHON

"$lewis" merge "$work/recipe.yml" "$work/out" --report -q
sed 's/<meta http-equiv="Content-Security-Policy"[^>]*>//' "$work/out/report.html" > "$work/open.html"
grep -q 'HACKED' "$work/open.html" || { echo "the hostile names are not on the page"; exit 1; }

dom() {
  "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --user-data-dir="$work/profile" --virtual-time-budget=3000 \
    --enable-logging=stderr --dump-dom "file://$1" 2> "$work/log"
}
for page in "$work/out/report.html" "$work/open.html"; do
  dom "$page" > "$work/dom"
  grep -q '<title>out: lewis merge report</title>' "$work/dom" || { echo "$page: the title was changed"; exit 1; }
  for tag in '<script' '<img' '<iframe' '<svg on'; do
    if grep -q "$tag" "$work/dom"; then echo "$page: $tag came to life"; exit 1; fi
  done
  if grep -q 'CONSOLE' "$work/log"; then grep 'CONSOLE' "$work/log"; exit 1; fi
done
# The check can fail: the same name unescaped runs.
printf '<title>x</title><p>%s' "<img src=x onerror=\"document.title='HACKED'\">" > "$work/bad.html"
dom "$work/bad.html" | grep -q '<title>HACKED' || { echo "the check itself does not work"; exit 1; }
echo "hostile names stay text, with the page's policy and without it; no message in the console"
