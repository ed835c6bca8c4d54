package rundir

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
)

// Access says who may open a socket.
type Access struct {
	Mode fs.FileMode
	GID  int // -1: the agent's own group
}

// NewAccess looks a group up by name or number; empty is the agent's own.
func NewAccess(mode fs.FileMode, group string) (Access, error) {
	a := Access{Mode: mode, GID: -1}
	if group == "" {
		return a, nil
	}
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		a.GID = gid
		return a, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return a, fmt.Errorf("find group %q: %w; create it (groupadd --system %s) or name another", group, err, group)
	}
	a.GID, err = strconv.Atoi(g.Gid)
	return a, err
}

// Apply gives the socket at path its group and permissions. The group comes
// first, so that at no time a wrong group may open it.
func (a Access) Apply(path string) error {
	if a.GID >= 0 {
		if err := os.Lchown(path, -1, a.GID); err != nil {
			return fmt.Errorf("give socket to group %d: %w; only root, or a member of the group, can do that", a.GID, err)
		}
	}
	if err := os.Chmod(path, a.Mode); err != nil {
		return fmt.Errorf("set permissions of socket: %w", err)
	}
	return nil
}
