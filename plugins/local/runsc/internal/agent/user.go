package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// user is who a process runs as. The host's user database plays no part.
type user struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// isAgent says that the user is the agent's own, whom a process has anyway.
func (u user) isAgent() bool { return u.uid == 0 && u.gid == 0 && len(u.groups) == 0 }

// lookupUser resolves "", "name", "uid", "name:group" and "uid:gid" in the guest's own passwd and group files.
// A number needs no entry there.
func lookupUser(spec string) (user, error) {
	if spec == "" {
		return user{home: "/root"}, nil
	}
	name, group, hasGroup := strings.Cut(spec, ":")
	u := user{home: "/"}
	row := findRow("/etc/passwd", name, 7)
	switch {
	case row != nil:
		uid, err1 := parseID(row[2])
		gid, err2 := parseID(row[3])
		if err1 != nil || err2 != nil {
			return user{}, fmt.Errorf("look up user %q: malformed entry: %w", name, syscall.EINVAL)
		}
		u.uid, u.gid, u.home = uid, gid, row[5]
		name = row[0]
	default:
		uid, err := parseID(name)
		if err != nil {
			return user{}, fmt.Errorf("look up user %q: no such user: %w", name, syscall.EINVAL)
		}
		u.uid = uid
	}
	if !hasGroup {
		u.groups = groupsOf(name)
		return u, nil
	}
	if row := findRow("/etc/group", group, 3); row != nil {
		group = row[2]
	}
	gid, err := parseID(group)
	if err != nil {
		return user{}, fmt.Errorf("look up group %q: no such group: %w", group, syscall.EINVAL)
	}
	u.gid = gid
	return u, nil
}

// findRow returns the entry of file whose name or number is key.
func findRow(file, key string, fields int) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		row := strings.Split(strings.TrimSpace(line), ":")
		if len(row) >= fields && (row[0] == key || row[2] == key) {
			return row
		}
	}
	return nil
}

func groupsOf(name string) []uint32 {
	b, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil
	}
	var gids []uint32
	for line := range strings.Lines(string(b)) {
		row := strings.Split(strings.TrimSpace(line), ":")
		if len(row) < 4 {
			continue
		}
		for member := range strings.SplitSeq(row[3], ",") {
			if gid, err := parseID(row[2]); err == nil && member == name {
				gids = append(gids, gid)
			}
		}
	}
	return gids
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
