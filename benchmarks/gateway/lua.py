"""nginx as a gateway in Lua: with a key check alone, and with what one would add next.

`EVERYTHING` reads the body, takes its model and longest answer by pattern, holds its tokens in a bucket of the key in a
shared dict, and writes a line of JSON per request. It does not parse JSON, hash keys, route by load, count what an
answer used, or keep metrics and an audit.
"""

from __future__ import annotations

from collections.abc import Sequence

KEY_CHECK = """\
        if ngx.var.http_authorization ~= "Bearer KEY" then
          ngx.status = 401
          ngx.say('{"error":{"message":"wrong key","type":"invalid_request_error"}}')
          return ngx.exit(401)
        end
"""

EVERYTHING = (
    KEY_CHECK
    + """\
        ngx.req.read_body()
        local body = ngx.req.get_body_data()
        if not body then return ngx.exit(413) end
        local model = string.match(body, '"model"%s*:%s*"([^"]+)"')
        if not model then return ngx.exit(400) end
        local longest = tonumber(string.match(body, '"max_tokens"%s*:%s*(%d+)')) or 1024
        local wanted = #body / 4 + longest
        local buckets, now = ngx.shared.buckets, ngx.now()
        local rate, most = 1e9, 1e12
        local held = buckets:get("tokens:KEY") or most
        local since = buckets:get("since:KEY") or now
        held = math.min(most, held + (now - since) * rate)
        if held < wanted then
          ngx.header["Retry-After"] = math.ceil((wanted - held) / rate)
          return ngx.exit(429)
        end
        buckets:set("tokens:KEY", held - wanted)
        buckets:set("since:KEY", now)
        ngx.ctx.model = model
        ngx.var.model_name = model
"""
)

LOG = """\
lua_shared_dict buckets 1m;
  log_format line escape=json '{"time":"$time_iso8601","request":"$request_id","model":"$model_name",'
    '"status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"engine":"$upstream_addr"}';
  access_log FOLDER/access.log line buffer=64k flush=1s;"""


def server(addresses: Sequence[str], port: int, script: str) -> str:
    """The blocks of an nginx that lets `script` look at each request."""
    engines = "".join(f"    server {address};\n" for address in addresses)
    return f"""\
  upstream engines {{
{engines}    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    set $model_name "";
    location / {{
      access_by_lua_block {{
{script}      }}
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 60s;
    }}
  }}
"""
