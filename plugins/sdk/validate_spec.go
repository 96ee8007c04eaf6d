package sdk

import (
	"net/netip"
	"path"
	"strconv"
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (v *violations) spec(s *providerv1.SandboxSpec) {
	v.image(s.GetImage())
	r := s.GetResources()
	v.atLeastZero("spec.resources.cpu_millis", r.GetCpuMillis())
	v.atLeastZero("spec.resources.memory_bytes", r.GetMemoryBytes())
	v.atLeastZero("spec.resources.disk_bytes", r.GetDiskBytes())
	v.atLeastZero("spec.resources.pids", r.GetPids())
	if g := r.GetGpu(); g != nil && g.GetCount() < 1 {
		v.add("spec.resources.gpu.count", strconv.Itoa(int(g.GetCount())), "want 1 or more")
	}
	v.env("spec.env", s.GetEnv())
	v.optionalPath("spec.workdir", s.GetWorkdir())
	v.user("spec.user", s.GetUser())
	if h := s.GetHostname(); h != "" && !hostPattern().MatchString(h) {
		v.add("spec.hostname", h, "want 1 to 63 letters, digits or '-'")
	}
	v.duration("spec.lifetime", s.GetLifetime(), false)
	v.egress("spec.egress", s.GetEgress())
	v.mounts(s.GetMounts())
	seen := map[uint32]bool{}
	for i, p := range s.GetPorts() {
		field := "spec.ports[" + strconv.Itoa(i) + "]"
		v.port(field, p)
		if seen[p] {
			v.add(field, strconv.FormatUint(uint64(p), 10), "want each port once")
		}
		seen[p] = true
	}
}

func (v *violations) image(image *providerv1.Image) {
	if image == nil {
		return
	}
	switch src := image.GetSource().(type) {
	case *providerv1.Image_Oci:
		if src.Oci == "" || strings.ContainsAny(src.Oci, " \t\n\x00") {
			v.add("spec.image.oci", src.Oci, "want [registry/]repository[:tag][@digest]")
		}
	case *providerv1.Image_Template:
		if src.Template == "" {
			v.add("spec.image.template", "", "want the name of a template")
		}
	case *providerv1.Image_Host:
	default:
		v.add("spec.image.source", "", "want oci, template or host; leave image out for the provider's default")
	}
}

func (v *violations) mounts(mounts []*providerv1.Mount) {
	seen := map[string]bool{}
	for i, m := range mounts {
		field := "spec.mounts[" + strconv.Itoa(i) + "]"
		v.path(field+".target", m.GetTarget())
		clean := path.Clean(m.GetTarget())
		switch {
		case clean == "/":
			v.add(field+".target", m.GetTarget(), "want a path below the root")
		case seen[clean]:
			v.add(field+".target", m.GetTarget(), "want each target once")
		}
		seen[clean] = true
		switch src := m.GetSource().(type) {
		case *providerv1.Mount_HostPath:
			v.path(field+".host_path", src.HostPath)
		case *providerv1.Mount_Volume:
			v.volume(field+".volume", src.Volume)
		default:
			v.add(field+".source", "", "want host_path or volume")
		}
		if _, known := providerv1.MountMode_name[int32(m.GetMode())]; !known || m.GetMode() == providerv1.MountMode_MOUNT_MODE_UNSPECIFIED {
			v.add(field+".mode", m.GetMode().String(), "want RO, RW or OVERLAY")
		}
	}
}

func (v *violations) egress(field string, e *providerv1.Egress) {
	if _, known := providerv1.EgressMode_name[int32(e.GetMode())]; !known {
		v.add(field+".mode", e.GetMode().String(), "want DENY, CAPTURE, NATIVE or OPEN")
	}
	if len(e.GetRules()) > 0 && e.GetMode() != providerv1.EgressMode_EGRESS_MODE_NATIVE {
		v.add(field+".rules", strconv.Itoa(len(e.GetRules()))+" rules", "want none unless mode is NATIVE")
	}
	for i, r := range e.GetRules() {
		at := field + ".rules[" + strconv.Itoa(i) + "]"
		switch {
		case (r.GetHost() == "") == (r.GetCidr() == ""):
			v.add(at, "", "want exactly one of host and cidr")
		case r.GetCidr() != "":
			if _, err := netip.ParsePrefix(r.GetCidr()); err != nil {
				v.add(at+".cidr", r.GetCidr(), "want a prefix such as 10.0.0.0/8")
			}
		case strings.Contains(strings.TrimPrefix(r.GetHost(), "*."), "*"):
			v.add(at+".host", r.GetHost(), "want a name, or *. and a suffix")
		}
		for j, p := range r.GetPorts() {
			v.port(at+".ports["+strconv.Itoa(j)+"]", p)
		}
	}
}

func (v *violations) startExec(m *providerv1.StartExecRequest) {
	v.ref(m.GetSandbox())
	v.id("exec_id", m.GetExecId())
	v.digest("request_digest", m.GetRequestDigest())
	s := m.GetSpec()
	if len(s.GetArgv()) == 0 || s.GetArgv()[0] == "" {
		v.add("spec.argv", "", "want a program and its arguments")
	}
	for i, arg := range s.GetArgv() {
		if strings.ContainsRune(arg, 0) {
			v.add("spec.argv["+strconv.Itoa(i)+"]", strings.ReplaceAll(arg, "\x00", `\0`), "want an argument without NUL")
		}
	}
	v.env("spec.env", s.GetEnv())
	v.optionalPath("spec.workdir", s.GetWorkdir())
	v.user("spec.user", s.GetUser())
	v.duration("spec.timeout", s.GetTimeout(), false)
	if t := s.GetTerminal(); t != nil && (t.GetRows() < 1 || t.GetRows() > maxPort || t.GetCols() < 1 || t.GetCols() > maxPort) {
		v.add("spec.terminal", strconv.FormatUint(uint64(t.GetRows()), 10)+"x"+strconv.FormatUint(uint64(t.GetCols()), 10),
			"want rows and cols from 1 to 65535")
	}
	if _, known := providerv1.OutputPolicy_name[int32(s.GetOutputPolicy())]; !known {
		v.add("spec.output_policy", s.GetOutputPolicy().String(), "want BACKPRESSURE or DROP_OLDEST")
	}
}

func (v *violations) attachExec(m *providerv1.AttachExecRequest) {
	open := m.GetInput().GetOpen()
	if open == nil {
		v.add("input.open", "", "want open as the first frame")
		return
	}
	v.refAt("input.open.sandbox", open.GetSandbox())
	v.id("input.open.exec_id", open.GetExecId())
}

func (v *violations) tunnelOpen(f *providerv1.TunnelFrame, flow bool) {
	open := f.GetOpen()
	switch {
	case open == nil:
		v.add("frame.open", "", "want open as the first frame")
	case flow && open.GetFlowId() == "":
		v.add("frame.open.flow_id", "", "want a flow that WatchFlows announced")
	case !flow && open.GetPort() == nil:
		v.add("frame.open.port", "", "want a port inside a sandbox")
	case !flow:
		target := open.GetPort()
		v.refAt("frame.open.port.sandbox", target.GetSandbox())
		v.port("frame.open.port.port", target.GetPort())
		if a := target.GetAddress(); a != "" {
			if ip, err := netip.ParseAddr(a); err != nil || !ip.IsLoopback() {
				v.add("frame.open.port.address", a, "want a loopback address, or nothing")
			}
		}
	}
}

// maxMode is the permission bits with set-uid, set-gid and sticky.
const maxMode = 0o7777

func (v *violations) mode(field string, mode uint32) {
	if mode > maxMode {
		v.add(field, "0"+strconv.FormatUint(uint64(mode), 8), "want permission bits, at most 07777")
	}
}

func (v *violations) files(req any) bool {
	switch m := req.(type) {
	case *providerv1.ReadFileRequest:
		v.ref(m.GetSandbox())
		v.path("path", m.GetPath())
		v.atLeastZero("offset", m.GetOffset())
		v.atLeastZero("length", m.GetLength())
	case *providerv1.WriteFileRequest:
		v.writeOpen(m.GetOpen())
	case *providerv1.StatFileRequest:
		v.ref(m.GetSandbox())
		v.path("path", m.GetPath())
	case *providerv1.ListFilesRequest:
		v.ref(m.GetSandbox())
		v.path("path", m.GetPath())
		v.page(m.GetPageSize(), maxFilePage)
	case *providerv1.MakeDirectoryRequest:
		v.ref(m.GetSandbox())
		v.path("path", m.GetPath())
		v.mode("permissions", m.GetPermissions())
	case *providerv1.RemoveFileRequest:
		v.ref(m.GetSandbox())
		v.path("path", m.GetPath())
	case *providerv1.MoveFileRequest:
		v.ref(m.GetSandbox())
		v.path("from", m.GetFrom())
		v.path("to", m.GetTo())
	case *providerv1.DiffFilesRequest:
		v.ref(m.GetSandbox())
		v.optionalPath("mount_target", m.GetMountTarget())
	default:
		return v.archives(req)
	}
	return true
}

func (v *violations) writeOpen(open *providerv1.WriteFileOpen) {
	if open == nil {
		v.add("open", "", "want open as the first frame")
		return
	}
	v.refAt("open.sandbox", open.GetSandbox())
	v.path("open.path", open.GetPath())
	v.mode("open.permissions", open.GetPermissions())
	v.user("open.user", open.GetUser())
	v.atLeastZero("open.offset", open.GetOffset())
	if open.GetOffset() > 0 && open.GetMode() != providerv1.WriteMode_WRITE_MODE_AT_OFFSET {
		v.add("open.offset", strconv.FormatInt(open.GetOffset(), 10), "want 0 unless mode is AT_OFFSET")
	}
	if _, known := providerv1.WriteMode_name[int32(open.GetMode())]; !known {
		v.add("open.mode", open.GetMode().String(), "want REPLACE, CREATE_NEW, APPEND or AT_OFFSET")
	}
}

func (v *violations) archives(req any) bool {
	switch m := req.(type) {
	case *providerv1.DownloadArchiveRequest:
		v.ref(m.GetSandbox())
		if len(m.GetPaths()) == 0 {
			v.add("paths", "", "want at least one absolute path")
		}
		seen := map[string]bool{}
		for i, p := range m.GetPaths() {
			field := "paths[" + strconv.Itoa(i) + "]"
			v.path(field, p)
			if base := path.Base(p); seen[base] {
				v.add(field, p, "another path ends in the same name; want different last elements")
			} else {
				seen[base] = true
			}
		}
	case *providerv1.UploadArchiveRequest:
		open := m.GetOpen()
		if open == nil {
			v.add("open", "", "want open as the first frame")
			return true
		}
		v.refAt("open.sandbox", open.GetSandbox())
		v.path("open.path", open.GetPath())
	default:
		return false
	}
	return true
}
