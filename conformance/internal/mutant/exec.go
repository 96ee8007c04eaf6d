package mutant

import (
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func execMutants() []Mutant {
	return []Mutant{{
		ID: "exec/exit-code~always-zero", Kills: "exec/exit-code",
		Bug: "every command ends with exit code 0",
		Stream: frames("AttachExec", func() func(*providerv1.AttachExecResponse) []*providerv1.AttachExecResponse {
			return func(f *providerv1.AttachExecResponse) []*providerv1.AttachExecResponse {
				f = clone(f)
				for _, exit := range []*providerv1.ExitStatus{f.GetOutput().GetExit(), f.GetOutput().GetDone().GetExit()} {
					if exit != nil {
						exit.Result = &providerv1.ExitStatus_Code{}
					}
				}
				return []*providerv1.AttachExecResponse{f}
			}
		}),
	}}
}
