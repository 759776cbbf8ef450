// Package route writes, for each member that people may reach through the gateway,
// one Secret in the gateway's namespace: where the member is, and a token of its
// impersonator. It renews tokens before they expire, and takes away the routes of
// members that are gone.
//
// The members' own answer decides nothing here: a member that is down keeps its
// route until its token expires. What a source says for good, such as that there is
// no token any more, takes the route away at once.
package route
