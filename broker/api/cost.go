package api

import (
	"context"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

func (h sandboxes) GetCost(ctx context.Context, req *connect.Request[brokerv1.GetCostRequest]) (*connect.Response[brokerv1.GetCostResponse], error) {
	return answer(h.s.GetCost(ctx, req.Msg))
}
