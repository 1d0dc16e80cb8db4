# shellcheck shell=bash
# Read by `nix develop` to find a derivation's environment; the host's programs stay on PATH behind its inputs.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
for input in ${nativeBuildInputs-} ${buildInputs-}; do
  if [ -d "$input/bin" ]; then PATH=$input/bin:$PATH; fi
done
runHook() {
  if [ -n "${!1-}" ]; then eval "${!1}"; fi
}
