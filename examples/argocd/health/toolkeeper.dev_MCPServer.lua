local said = {}
if obj.status ~= nil and obj.status.observedGeneration == obj.metadata.generation then
  for _, condition in ipairs(obj.status.conditions or {}) do
    said[condition.type] = condition
  end
end
local function says(kind, status)
  return said[kind] ~= nil and said[kind].status == status
end
local function health(status, kind)
  local message = said[kind].message or ""
  return { status = status, message = said[kind].reason .. (message ~= "" and ": " .. message or "") }
end

if says("Stalled", "True") then return health("Degraded", "Stalled") end
if says("SecretsResolved", "False") and said["SecretsResolved"].reason == "SecretMissing" then
  return health("Degraded", "SecretsResolved")
end
if says("Paused", "True") then return health("Suspended", "Paused") end
if says("Reconciling", "True") then return health("Progressing", "Reconciling") end
if says("Ready", "True") then return health("Healthy", "Ready") end
if said["Ready"] ~= nil then return health("Progressing", "Ready") end
-- Without Ready nothing is to run: it was stopped on purpose, or has done what it was for.
if said["Deployed"] ~= nil then return health("Healthy", "Deployed") end
return { status = "Progressing", message = "waiting for Toolkeeper" }
