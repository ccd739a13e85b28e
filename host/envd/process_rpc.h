/* The methods of process.Process. */
#ifndef E2B_PROCESS_RPC_H
#define E2B_PROCESS_RPC_H

#include "rpc.h"

/* Ended by one without a name. */
extern const struct rpc_method process_rpc_methods[];

#endif
