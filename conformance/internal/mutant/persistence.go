package mutant

import "slices"

func persistenceMutants() []Mutant {
	return slices.Concat(pauseMutants(), livePauseMutants(), snapshotMutants(), forkMutants(), localMutants())
}
