package mutant

import "slices"

func fileMutants() []Mutant {
	return slices.Concat(contentMutants(), pathMutants(), folderMutants(), archiveMutants(), volumeMutants(), mountMutants(), resourceMutants())
}
