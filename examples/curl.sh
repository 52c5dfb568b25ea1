#!/bin/sh
# A list of models, an answer, and the same answer as a stream.
# Usage: INHOUSE_API_KEY=sk-ih-… sh examples/curl.sh
set -eu
url=${INHOUSE_BASE_URL:-http://127.0.0.1:8080/v1}
model=${INHOUSE_MODEL:-demo}
: "${INHOUSE_API_KEY:?set it to a key: export INHOUSE_API_KEY=\$(inhouse keys create)}"

ask() {
  curl --silent --show-error --fail-with-body \
    -H "Authorization: Bearer $INHOUSE_API_KEY" -H "Content-Type: application/json" "$@"
}

ask "$url/models"
echo

body='"model": "'$model'", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello, who are you?"}]'
ask "$url/chat/completions" -d "{$body}"
echo

# -N: show each event as it comes
ask -N "$url/chat/completions" -d "{$body, \"stream\": true}"
