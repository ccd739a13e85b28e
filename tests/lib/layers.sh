#!/bin/sh
# The storeys of the house: nobody includes what stands above (STYLE).
set -eu
fail=0
deny() { # files pattern what
    # shellcheck disable=SC2086
    if out=$(grep -rnE "$2" $1 --include='*.c' --include='*.h'); then
        echo "$out"
        echo "layers: $3"
        fail=1
    fi
}
inc='^#include "(\.\./)*'
deny host/base "${inc}(net|sandbox|envd|bind)/" 'base stands on nothing'
deny host/net "${inc}(sandbox|envd|bind)/" 'net stands on base'
deny host/net/core "${inc}net/(client|server)/" 'net/core is shared with envd'
deny host/sandbox "${inc}(envd|bind)/" 'sandbox stands on base and net'
deny host/envd "${inc}(sandbox|bind|net/client|net/server)/" \
    'envd stands on base and net/core'
deny "host/base host/net host/sandbox host/envd" '<(lua|lauxlib|lualib)\.h>' \
    'only bind and main include lua.h'
door() { # header allowed-files
    if out=$(grep -rlE "<$1>" host --include='*.c' --include='*.h' |
        grep -vE "^($2)$"); then
        echo "$out"
        echo "layers: <$1> has one door: $2"
        fail=1
    fi
}
door 'uv\.h' 'host/net/core/(loop|stream|resolve)\.c'
door 'llhttp\.h' 'host/net/core/http1\.c'
door 'curl/curl\.h' 'host/net/client/httpc_impl\.h'
door 'sqlite3\.h' 'host/sandbox/store\.c'
door 'zlib\.h' 'host/base/gzip\.c'
door 'archive\.h' 'host/net/client/(archive|unpack)\.c'
deny "host" '\b(system|popen|sprintf|strcpy|strcat|gets)\(' \
    'no shell, no unbounded copies'
[ $fail = 0 ]
