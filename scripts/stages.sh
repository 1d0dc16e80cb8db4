# shellcheck shell=bash
# Runs the stages of ./check: each is named, timed and counted. Sourced after ui.sh.

PASSED=0 FAILED=0 SKIPPED=0
SUMMARY=()
SKIP=77 # automake's exit code for "could not be run here"

# skip WHY: ends the stage that calls it as skipped.
skip() {
  printf 'SKIPPED: %s\n' "$*"
  exit "$SKIP"
}

# stage NAME COMMAND...: the command may be a function; it runs in a subshell that stops at its first error.
stage() {
  local name=$1 began=$SECONDS status verdict
  shift
  headline "$name"
  set +e # `if ! "$@"` would switch `set -e` off inside the command too
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  case $status in
    0) verdict=passed PASSED=$((PASSED + 1)) ;;
    "$SKIP") verdict=skipped SKIPPED=$((SKIPPED + 1)) ;;
    130 | 143) exit "$status" ;;
    *) verdict=FAILED FAILED=$((FAILED + 1)) ;;
  esac
  SUMMARY+=("$(printf '%-8s %5d s  %s' "$verdict" $((SECONDS - began)) "$name")")
  note "$verdict after $((SECONDS - began)) s: $name"
}

# need NAME COMMAND...: a stage that the others need; if it fails, the run ends.
need() {
  local failed_before=$FAILED
  stage "$@"
  ((FAILED == failed_before)) || finish
}

# Prints the table and the closing line, and exits.
finish() {
  headline "Summary ($SECONDS s)"
  printf '    %s\n' "${SUMMARY[@]}"
  printf '%d passed, %d failed%s\n' "$PASSED" "$FAILED" "$( ((SKIPPED == 0)) || printf ', %d skipped' "$SKIPPED")"
  ((FAILED == 0)) || exit 1
  exit 0
}
