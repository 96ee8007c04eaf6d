package fault

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// reasons is read once from the descriptors, which are the only table; and not
// before it is needed, since most processes end without an error.
var reasons = sync.OnceValue(readReasons)

type reasonEntry struct {
	info *providerv1.ReasonInfo
	code codes.Code
}

func readReasons() map[providerv1.ErrorReason]reasonEntry {
	values := providerv1.ErrorReason(0).Descriptor().Values()
	out := make(map[providerv1.ErrorReason]reasonEntry, values.Len())
	for i := range values.Len() {
		v := values.Get(i)
		info, _ := proto.GetExtension(v.Options(), providerv1.E_ReasonInfo).(*providerv1.ReasonInfo)
		if info == nil {
			continue
		}
		var code codes.Code
		if code.UnmarshalJSON([]byte(`"`+info.GetCode()+`"`)) != nil {
			code = codes.Internal
		}
		out[providerv1.ErrorReason(v.Number())] = reasonEntry{info: info, code: code}
	}
	return out
}

// InfoOf returns what a reason means to a caller, or nil for UNSPECIFIED and
// reasons newer than this build. All getters of a nil ReasonInfo are usable.
func InfoOf(reason providerv1.ErrorReason) *providerv1.ReasonInfo { return reasons()[reason].info }

// CodeOf returns the gRPC code of a reason; Unknown for an unknown reason.
func CodeOf(reason providerv1.ErrorReason) codes.Code {
	if e, ok := reasons()[reason]; ok {
		return e.code
	}
	return codes.Unknown
}
