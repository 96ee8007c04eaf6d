package sdk

import (
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// gate refuses a request that uses what is not declared. It fills the defaults
// that the contract gives to absent fields first, so that an absent field needs
// the capability of what it means.
func (d *description) gate(method string, req any) error {
	if id := guard.Method(method); id != "" {
		if err := d.permit(id, ""); err != nil {
			return err
		}
	}
	return d.gateMessage(req)
}

func (d *description) gateMessage(req any) error {
	msg, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	fillDefaults(msg)
	for _, need := range guard.Uses(msg) {
		if err := d.permit(need.Capability, need.Field); err != nil {
			return err
		}
	}
	return nil
}

// gateInput checks a frame of AttachExec behind Open. Signals and sizes are
// guarded like the RPC and the field that do the same.
func (d *description) gateInput(in *providerv1.ExecInput) error {
	switch in.GetFrame().(type) {
	case *providerv1.ExecInput_Signal:
		return d.permit("exec.signal", "input.signal")
	case *providerv1.ExecInput_Resize:
		return d.permit("exec.pty", "input.resize")
	}
	return nil
}
